"""The elements of OME-XML, also of a damaged or unsafe one."""

import html
import re
from collections.abc import Sequence
from xml.parsers import expat


def ome_pixels(text: str) -> list[dict[str, str]]:
    """The attributes of each `Pixels` of OME-XML, see `ome_elements`."""
    return [attributes for _, attributes in ome_elements(text, ("Pixels",))]


def ome_elements(text: str, names: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Name and attributes of each element of OME-XML that has one of the names, in order, up to where it is damaged.

    No entity is expanded but those that XML itself defines: a document that declares any has none.
    """
    # Writers use these names of HTML although XML does not know them.
    text = re.sub(r"&(micro|mu|Aring|aring|angst);", lambda name: html.unescape(name[0]), text)
    found: list[tuple[str, dict[str, str]]] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(":")[2]
        if local in names:
            found.append((local, attributes))

    def refuse(*_) -> None:
        raise ValueError("it declares entities")

    parser.StartElementHandler = start
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(text.strip("\0\ufeff \r\n\t"), True)
    except ValueError:
        return []
    except expat.ExpatError:
        pass  # what stands before the damage holds
    return found
