"""The page on TLS: its commands and settings do what it says, word for word."""

import re
import subprocess
from pathlib import Path

from config.settings import load_settings
from dicom_node.checks import Level, check_certificates
from tests.listening import listening
from tests.peers import free_port

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "tls.md"


def test_the_page_leads_from_no_certificate_to_an_association(tmp_path):
    page = PAGE.read_text(encoding="utf-8")
    *makes, echo = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    tls = tmp_path / "tls"
    tls.mkdir()
    for make in makes:
        subprocess.run(["bash", "-e", "-c", make], cwd=tls, check=True, capture_output=True, timeout=60)
    file = tmp_path / "fullfield.toml"
    file.write_text(re.findall(r"```toml\n(.*?)```", page, re.DOTALL)[0])
    settings = load_settings(file)
    assert {finding.level for finding in check_certificates(settings.tls)} == {Level.OK}
    port = free_port()
    listener = {"allow": settings.listener.allow, "tls_port": port}
    assert settings.listener.tls_port == 2762
    with listening(tmp_path, tls=settings.tls, **listener):
        subprocess.run(["bash", "-c", echo.replace("2762", str(port))], cwd=tls, check=True, timeout=60)
