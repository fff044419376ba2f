"""Pages of groups, for who looks through a whole store: check and repair."""

import os
from array import array
from collections import OrderedDict
from collections.abc import Iterator

from difffs import _kernels
from difffs.page import PAGE_SIZE
from difffs.store.object_table import ObjectTable, StoredObject

_REMEMBERED = 16
"""Decoded groups, of 256 KiB at most."""


class StoredGroups:
    """Decodes groups from the payload file."""

    def __init__(
        self, file: int, objects: ObjectTable, dictionary: _kernels.Dictionary | None
    ) -> None:
        """`dictionary` is that of groups."""
        self._file = file
        self._objects = objects
        self._decoder = _kernels.GroupDecoder(dictionary)
        self._known: OrderedDict[int, bytes] = OrderedDict()

    def verify(self, item: StoredObject) -> None:
        """ValueError tells what is wrong with a group's payload. Whether pages come out of it, its
        members tell: a repair keeps what is left of a damaged one."""
        if _kernels.checksum(self._payload(item)) != item.digest:
            raise ValueError("its payload is not the one that was written")

    def page(self, member: StoredObject) -> bytes:
        """A member's page, whatever its digest; ValueError tells why there is none."""
        group = self._objects.get(member.base)
        if group is None or not group.is_group:
            raise ValueError("its group does not exist")
        at = member.group_page
        if at >= group.members_made:
            raise ValueError(f"it is page {at} of a group of {group.members_made}")
        pages = self._pages(member.base, group, at + 1)
        return pages[at * PAGE_SIZE : (at + 1) * PAGE_SIZE]

    def _pages(self, identity: int, group: StoredObject, wanted: int) -> bytes:
        if identity in self._known:
            self._known.move_to_end(identity)
            return self._known[identity]
        payload = self._payload(group)
        try:
            pages = self._decoder.decode(group.codec, payload, group.members_made)
        except ValueError:
            # What lies before the damage may be whole: reading asks for no more.
            return self._decoder.decode(group.codec, payload, group.members_made, wanted)
        self._known[identity] = pages
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return pages

    def _payload(self, item: StoredObject) -> bytes:
        payload = os.pread(self._file, item.length, item.position)
        if len(payload) < item.length:
            raise ValueError("the payload file ends before it")
        return payload


def in_order_of_decoding(objects: ObjectTable) -> Iterator[tuple[int, StoredObject]]:
    """All objects, with the members of a group one behind the other at the end: each group is
    decoded once."""
    for identity, item in objects:
        if not item.is_member:
            yield identity, item
    for identity in members_by_group(objects):
        member = objects.get(identity)
        assert member is not None
        yield identity, member


def members_by_group(objects: ObjectTable) -> "array[int]":
    """The ids of all members, those of a group next to each other."""
    keys = array("Q")
    for identity, item in objects:
        if item.is_member:
            keys.append(item.base << 32 | identity)
    return array("I", [key & 0xFFFFFFFF for key in sorted(keys)])
