"""Private attributes of the source that a route lets through to the pictures (PS3.5 7.8.1).

What a vendor's private attributes say of generated pixels nobody knows, and some hold patient data: all stay behind but
the blocks of creators that the route names.
"""

from collections.abc import Collection, Iterator

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node.objects.source_header import copy_of

#: The element numbers of private creators; creator 0x10 reserves the elements from 0x1000 to 0x10FF.
_CREATORS = range(0x10, 0x100)
#: Odd groups below are nobody's (PS3.5 7.8); those behind the pixel data hold pixels of other kinds.
_GROUPS = range(0x0009, 0x7FE0)


def carry_private_blocks(source: Dataset, result: Dataset, creators: Collection[str]) -> None:
    """Give `result` the private blocks of the root of `source` whose creator is named, each with its creator.

    Blocks are numbered anew from 0x10 in each group, in the order of the source. A block in which nothing can be read
    stays behind, and so do private attributes within sequences that are not private, and those behind the pixel data.
    """
    for group, creator, elements in _blocks(source):
        if creator in creators and elements:
            block = next(number for number in _CREATORS if Tag(group, number) not in result)
            result.add_new(Tag(group, block), "LO", creator)
            for element in elements:
                element.tag = Tag(group, block << 8 | element.tag.element & 0xFF)
                result.add(element)


def _blocks(source: Dataset) -> Iterator[tuple[int, str, list[DataElement]]]:
    """Group, creator, and copies of the readable elements of each block."""
    private = [tag for tag in sorted(source.keys()) if tag.is_private and tag.group in _GROUPS]
    for tag in private:
        if not tag.is_private_creator:
            continue
        creator = copy_of(source, tag)
        if creator is None or not isinstance(creator.value, str):
            continue
        within = [other for other in private if other.group == tag.group and other.element >> 8 == tag.element]
        found = [copy_of(source, other) for other in within]
        yield tag.group, creator.value.strip(), [element for element in found if element is not None]
