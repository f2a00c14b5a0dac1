"""The three parts of a DICOM address (PS3.8 9.3.2, PS3.15 H.1), and networks, checked when a file is read."""

import ipaddress
from typing import Annotated

from pydantic import AfterValidator, Field


def _ae_title(value: str) -> str:
    title = value.strip()
    if not 1 <= len(title) <= 16:
        raise ValueError(f"must be an AE title of 1 to 16 characters, not {value!r}")
    if "\\" in title or not (title.isascii() and title.isprintable()):
        raise ValueError(f"must be an AE title in printable ASCII without a backslash (PS3.5 6.2), not {value!r}")
    return title


def _host(value: str) -> str:
    if not value or any(character.isspace() or character in "/\\" for character in value):
        raise ValueError(f"must be a host name or an IP address, not {value!r}")
    return value


def _range(value: str) -> str:
    try:
        ipaddress.ip_network(value, strict=False)
    except ValueError as error:
        raise ValueError(f"must be an IP address or a network such as '10.1.2.0/24', not {value!r}") from error
    return value


#: Application entity title: 1 to 16 printable ASCII characters without a backslash, no blanks around it.
AETitle = Annotated[str, AfterValidator(_ae_title)]
#: Host name or IP address.
Host = Annotated[str, AfterValidator(_host)]
#: TCP port.
Port = Annotated[int, Field(ge=1, le=65535)]
#: IP address, or network of such.
AddressRange = Annotated[str, AfterValidator(_range)]
