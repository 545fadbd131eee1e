"""XML label files: parsing, and errors that name the file and the element."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from canton.errors import UserError
from canton.track.data.formats.labels import as_number, read_text


def read_xml(path: Path) -> ET.Element:
    """Return the root of an XML file.

    Raises:
        UserError: it cannot be read, is not XML, or declares entities.
    """
    text = read_text(path)
    if "<!ENTITY" in text:
        raise UserError(f"{path} declares entities, which labels do not need: remove them")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError) as error:
        raise UserError(f"{path} is not XML: {error}") from error


def attribute(element: ET.Element, name: str) -> str:
    """Return an attribute.

    Raises:
        ValueError: the element has none.
    """
    value = element.get(name)
    if value is None:
        raise ValueError(f"<{element.tag}> must have the attribute {name}")
    return value


def number_of(element: ET.Element, name: str) -> float:
    """Return a number: an attribute.

    Raises:
        ValueError: it is missing or not a finite number.
    """
    return as_number(attribute(element, name))


def number_in(element: ET.Element, path: str) -> float:
    """Return a number: the text of the element below.

    Raises:
        ValueError: it is missing or not a finite number.
    """
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"<{element.tag}> must have <{path}>")
    return as_number(text.strip())
