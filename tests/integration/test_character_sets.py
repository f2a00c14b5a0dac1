"""Names in every character set (PS3.3 C.12.1.1.2): in each result as in the source, as dcmtk reads it; and what becomes
of text whose set is not named, or wrongly."""

import subprocess
from io import BytesIO

import pytest
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from config.mark import Mark
from config.objects import Beside
from dicom_node.objects.source_faults import faults
from dicom_node.workflow.reconstruction import objects_of, read_image
from tests.dciodvfy import errors_in
from tests.factory import reconstruction, write, xa

pytestmark = pytest.mark.filterwarnings("ignore")

#: Sets that stand alone, as Python knows them, and a name in each.
ALONE = {
    "ISO_IR 13": ("shift_jis", "ﾔﾏﾀﾞ^ﾀﾛｳ"),
    "ISO_IR 100": ("latin-1", "Buc^Jérôme"),
    "ISO_IR 101": ("iso8859-2", "Wałęsa^Żółć"),
    "ISO_IR 109": ("iso8859-3", "Ĝoja^Ĥoro"),
    "ISO_IR 110": ("iso8859-4", "Ģirts^Šķēle"),
    "ISO_IR 126": ("iso8859-7", "Διονυσιος"),
    "ISO_IR 127": ("iso8859-6", "قباني^لنزار"),
    "ISO_IR 138": ("iso8859-8", "שרון^דבורה"),
    "ISO_IR 144": ("iso8859-5", "Люкceмбypг"),
    "ISO_IR 148": ("iso8859-9", "Çavuşoğlu^İnci"),
    "ISO_IR 166": ("iso8859-11", "นามสกุล^ชื่อ"),
    "ISO_IR 192": ("utf-8", "Wang^XiaoDong=王^小東"),
    "GB18030": ("gb18030", "Wang^XiaoDong=王^小东"),
    "GBK": ("gbk", "Wang^XiaoDong=王^小东"),
}
JAPANESE = (
    b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
)
#: Sets that escape sequences switch between, a name as PS3.5 annexes H to K write it, and what it says.
EXTENDED = {
    "\\ISO 2022 IR 87": JAPANESE,
    "ISO 2022 IR 13\\ISO 2022 IR 87": (
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    "\\ISO 2022 IR 87\\ISO 2022 IR 159": (b"Test^A=\x1b$(D0!\x1b(B^\x1b$B;3\x1b(B", "Test^A=丂^山"),
    "\\ISO 2022 IR 149": (
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    "\\ISO 2022 IR 58": (b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab", "Zhang^XiaoDong=张^小东"),
    "ISO 2022 IR 100\\ISO 2022 IR 144": (b"J\xe9r\xf4me^A=\x1b-L\xc0\xde\xd7\xd0", "Jérôme^A=Роза"),
}
NAMES = {charset: (name.encode(codec), name) for charset, (codec, name) in ALONE.items()} | EXTENDED
#: Where Debian's dcmtk cannot convert to UTF-8: glibc's iconv does not know these sets by the names that it asks for.
UNKNOWN_TO_DCMTK = ("ISO 2022 IR 87", "ISO 2022 IR 159")


def received(charset, **texts: bytes) -> Dataset:
    """A cine whose file holds just these bytes."""
    image = xa(rows=32, columns=32, frames=2, charset=None)
    written = {}
    for number, (keyword, text) in enumerate(texts.items()):
        text += b" " * (len(text) % 2)
        stand_in = (f"@{number}" * 40)[: len(text)]
        setattr(image, keyword, stand_in)
        written[stand_in.encode()] = text
    if charset is not None:
        charset += " " * (len(charset) % 2)
        image.SpecificCharacterSet = "Z" * len(charset)
        written[b"Z" * len(charset)] = charset.encode()
    file = BytesIO()
    dcmwrite(file, image, enforce_file_format=True)
    content = file.getvalue()
    for stand_in, text in written.items():
        assert content.count(stand_in) == 1
        content = content.replace(stand_in, text)
    return read_image(BytesIO(content))


def every_object(source, profile="multiframe_sc"):
    carried = objects_of(
        source,
        reconstruction(source),
        route="r",
        mark=Mark(),
        profile=profile,
        beside=Beside(uncertainty=True),
    )
    return carried.all()


def dumped(path, *options) -> dict[str, bytes]:
    """The texts of the root as dcmdump writes them, by keyword; the first of each."""
    asked = [part for keyword in ("PatientName", "InstitutionName", "SeriesDescription") for part in ("+P", keyword)]
    told = subprocess.run(["dcmdump", "-q", "+L", *options, *asked, path], capture_output=True, check=True)
    lines = [line for line in reversed(told.stdout.splitlines()) if b"[" in line]
    values = (line.split(b"[", 1)[1].rsplit(b"]", 1)[0].rstrip() for line in lines)
    return dict(zip([line.split()[-1].decode() for line in lines], values, strict=True))


def family_name(raw: bytes, name: str) -> tuple[bytes, str]:
    """That of the first group that is not in Latin letters, in bytes and as text."""
    group = 1 if "=" in name else 0
    end = b"^\x1b" if b"\x1b" in raw else b"^"
    return raw.split(b"=")[group].split(end)[0], name.split("=")[group].split("^")[0]


@pytest.mark.parametrize(("charset", "text"), NAMES.items(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_name_is_in_every_result_what_it_is_in_the_source(charset, text, tmp_path):
    raw, name = text
    raw_site, site = family_name(raw, name)
    source = received(
        charset, PatientName=raw, PerformingPhysicianName=raw, InstitutionName=raw_site, SeriesDescription=raw_site
    )
    assert faults(source) == []
    repeated = charset != "ISO_IR 13"
    results = every_object(source, "like_source")
    assert {result.Modality for result in results} == {"XA", "SEG", "PR", "SR"}
    for number, result in enumerate(results):
        path = write(result, tmp_path / f"{number}.dcm")
        assert dcmread(path).SpecificCharacterSet == (source.SpecificCharacterSet if repeated else "ISO_IR 192")
        assert dumped(path)["PatientName"] == (raw if repeated else name.encode())
        if charset.endswith(UNKNOWN_TO_DCMTK):
            assert dcmread(path).PatientName == name
            continue
        read = {keyword: text.decode() for keyword, text in dumped(path, "+U8").items()}
        assert (read["PatientName"], read["InstitutionName"]) == (name, site)
        assert read["SeriesDescription"].endswith(f": {site}")


@pytest.mark.parametrize("charset", [charset for charset in NAMES if not charset.endswith(UNKNOWN_TO_DCMTK)])
def test_dsrdump_names_the_patient_of_a_report(charset, tmp_path):
    raw, name = NAMES[charset]
    report = every_object(received(charset, PatientName=raw))[-1]
    assert report.Modality == "SR"
    path = write(report, tmp_path / "report.dcm")
    told = subprocess.run(["dsrdump", "+U8", path], capture_output=True, check=True)
    # That dcmtk's check of values knows few sets is said of each object in them, the source too.
    assert [line for line in told.stderr.splitlines() if not line.startswith(b"W: The VR checker")] == []
    assert name.split("=")[0].split("^")[0] in told.stdout.decode()


MÜLLER = "Müller^Jörg"
NO_SET = "SpecificCharacterSet names no character set that there is (PS3.3 C.12.1.1.2): "
REPEATED = f"{NO_SET}the result repeats the text as it can be read."
IN_PART = "PatientName holds bytes that its character set does not (PS3.5 6.1): the result repeats what it can."


@pytest.mark.parametrize(
    ("charset", "raw", "name", "told"),
    [
        # Misspelt, or out of place: what was meant is plain, or is UTF-8.
        ("ISO_IR_192", MÜLLER.encode(), MÜLLER, [REPEATED]),
        ("ISO IR 192", MÜLLER.encode(), MÜLLER, [REPEATED]),
        ("UTF-8", MÜLLER.encode(), MÜLLER, [REPEATED]),
        ("ISO_IR 999", MÜLLER.encode(), MÜLLER, [REPEATED]),
        ("ISO_IR 999", MÜLLER.encode("latin-1"), MÜLLER, [REPEATED]),
        ("\\ISO_IR 192", MÜLLER.encode(), MÜLLER, [REPEATED]),
        ("ISO_IR 192\\ISO 2022 IR 87", MÜLLER.encode(), MÜLLER, [REPEATED]),
        ("ISO-IR 144", "Роза".encode("iso8859-5"), "Роза", [REPEATED]),
        ("iso_ir 100", MÜLLER.encode("latin-1"), MÜLLER, [REPEATED]),
        ("ISO 2022 IR 100", MÜLLER.encode("latin-1"), MÜLLER, [REPEATED]),
        ("ISO_IR 100\\ISO 2022 IR 144", b"J\xe9r\xf4me^A=\x1b-L\xc0\xde\xd7\xd0", "Jérôme^A=Роза", [REPEATED]),
        ("ISO 2022 IR 87", *JAPANESE, [REPEATED]),
        ("hex", MÜLLER.encode(), "", [REPEATED, "PatientName cannot be read (PS3.5 6.2): left out of the result."]),
        # Not named.
        (None, MÜLLER.encode(), MÜLLER, [IN_PART]),
        (None, MÜLLER.encode("latin-1"), MÜLLER, [IN_PART]),
        ("ISO_IR 6", MÜLLER.encode("latin-1"), MÜLLER, [IN_PART]),
        # Named, but another one.
        ("ISO_IR 192", MÜLLER.encode("latin-1"), "M\ufffdller^J\ufffdrg", [IN_PART]),
        ("ISO_IR 127", b"A\xa1\xff\xdb^B", "A???^B", [IN_PART]),
        ("GB18030", b"M\xff\xff^J", "M\ufffd\ufffd^J", [IN_PART]),
        ("ISO_IR 100", b"A=\x1b$B;3ED\x1b(B", "A=\x1b$B;3ED", [IN_PART]),
        ("\\ISO 2022 IR 87", b"A=\x1b$(D0!\x1b(B", "A=\x1b$(D0!", [IN_PART]),
    ],
)
def test_text_in_a_wrong_character_set_is_mended_or_told(charset, raw, name, told, tmp_path):
    source = received(charset, PatientName=raw)
    assert faults(source) == told
    for number, result in enumerate(every_object(source)):
        path = write(result, tmp_path / f"{number}.dcm")
        assert errors_in(path) == []
        assert dcmread(path).PatientName == name
        if name and (told == [REPEATED] or charset in (None, "ISO_IR 6")):
            assert dcmread(path).SpecificCharacterSet == "ISO_IR 192"
            assert dumped(path, "+U8")["PatientName"].decode() == name


def test_a_set_that_an_item_names_stays_its_own(tmp_path):
    item = Dataset()
    item.SpecificCharacterSet = "ISO_IR 144"
    item.InstitutionName = "Роза"
    source = xa(patient_name="Müller", PerformingPhysicianIdentificationSequence=[item])
    path = write(every_object(source)[0], tmp_path / "a.dcm")
    [read] = dcmread(path).PerformingPhysicianIdentificationSequence
    assert (dcmread(path).PatientName, read.InstitutionName) == ("Müller", "Роза")
    assert "Роза".encode("iso8859-5") in path.read_bytes()
