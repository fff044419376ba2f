"""Names of a repaired store: a tree again, whatever records are gone.

What has lost its name or its directory gets one in ``lost+found``: files as ``inode-N``, where N is
the number that names their page table, and so do directories that are only known from what they
hold.
"""

import stat
from collections.abc import Iterable
from dataclasses import dataclass, field

from difffs.page import MAXIMUM_VOLUME_SIZE, PAGE_SIZE
from difffs.store.inode import NAME_MAXIMUM, Inode, encode_name, time_now
from difffs.store.namespace import Namespace, is_cut_off

LOST_AND_FOUND = "lost+found"


@dataclass(slots=True)
class RepairedNames:
    """The inodes of the repaired store, and what became of others."""

    inodes: dict[int, Inode]
    gone: list[str] = field(default_factory=list)
    """Of what had a name and has none any more, or its data without: one line each."""
    moved: list[str] = field(default_factory=list)
    """Of what has another name now: one line each."""
    dropped: set[int] = field(default_factory=set)
    """Volumes whose pages are not kept: they were being removed."""

    def volume_names(self) -> dict[int, str]:
        """What to call each volume."""
        namespace = Namespace((each.number, each.pack()) for each in self.inodes.values())
        names = {
            each.number: namespace.path(each.number)
            for each in self.inodes.values()
            if each.is_volume
        }
        for image in self.inodes.values():
            if image.is_image:
                for part, what in ((image.skeleton, "skeleton"), (image.memory, "memory")):
                    if not self.inodes[part].nlink:
                        names[part] = f"{namespace.path(image.number)} ({what})"
        return names


def repaired_names(
    found: Iterable[Inode],
    gone: Iterable[int],
    pages: dict[int, int],
    domains: dict[int, int],
    *,
    whole: bool,
    uid: int,
    gid: int,
) -> RepairedNames:
    """A tree of the inodes that were found.

    `gone`: numbers of those whose records are not there. `pages`: by volume, the pages up to the
    last that its page table maps. `domains`: by volume, that of its objects. Unless `whole`, there
    may have been others. uid and gid own what is made anew.
    """
    return _Names(found, gone, pages, domains, whole=whole, uid=uid, gid=gid).repaired()


class _Names:
    def __init__(
        self,
        found: Iterable[Inode],
        gone: Iterable[int],
        pages: dict[int, int],
        domains: dict[int, int],
        *,
        whole: bool,
        uid: int,
        gid: int,
    ) -> None:
        self._inodes = {inode.number: inode for inode in found}
        self._gone = set(gone) - set(self._inodes)
        self._pages = pages
        self._domains = domains
        self._has_domains = any(domains.values()) or any(
            each.domain is not None for each in self._inodes.values()
        )
        self._whole = whole
        self._uid, self._gid = uid, gid
        self._result = RepairedNames(self._inodes)
        self._next = 1 + max(
            [
                *(Namespace.ROOT, *self._inodes, *self._gone, *pages, *domains.values()),
                *(each.domain or 0 for each in self._inodes.values()),
            ]
        )
        self._remade: set[int] = set()

    def repaired(self) -> RepairedNames:
        self._require_root()
        self._make_missing_directories()
        self._make_missing_volumes()
        self._drop_broken_images()
        self._settle_orphans()
        self._settle_places()
        for number in sorted(self._gone - set(self._inodes)):
            self._result.gone.append(f"inode {number}: its record is gone, and no page of it known")
        self._count_links()
        return self._result

    def _make(
        self, number: int, mode: int, name: str, size: int = 0, domain: int | None = 0
    ) -> Inode:
        now = time_now()
        inode = Inode(
            number, mode, self._uid, self._gid, size, now, now, now, 1, Namespace.ROOT, name
        )
        inode.domain = (domain or 0) if self._has_domains else None
        self._inodes[number] = inode
        return inode

    def _require_root(self) -> None:
        root = self._inodes.get(Namespace.ROOT)
        if root is None or not root.is_directory:
            self._make(Namespace.ROOT, stat.S_IFDIR | 0o755, "")
            self._result.moved.append("the root directory: its owner, mode and times are gone")

    def _lost_and_found(self, domain: int | None) -> Inode:
        """Where to put what belongs to a domain. Each directory in the root is a domain of its own:
        that of others is in theirs, and what is of the root's domain in the root itself."""
        place, base = self._inodes[Namespace.ROOT], LOST_AND_FOUND
        if self._has_domains:
            if not domain:
                return place
            tops = [
                each
                for each in self._inodes.values()
                if _is_in(each, Namespace.ROOT) and each.is_directory and each.domain == domain
            ]
            if tops:
                place = tops[0]
            else:
                base = f"{LOST_AND_FOUND}-{domain}"
        return self._directory_in(place, base, domain)

    def _directory_in(self, place: Inode, base: str, domain: int | None) -> Inode:
        used = {each.name: each for each in self._inodes.values() if _is_in(each, place.number)}
        name, count = base, 1
        while name in used and not used[name].is_directory:
            count += 1
            name = f"{base}-{count}"
        if name in used:
            return used[name]
        self._next += 1
        made = self._make(self._next - 1, stat.S_IFDIR | 0o700, name, domain=domain)
        made.parent = place.number
        return made

    def _move(self, inode: Inode, name: str, why: str) -> None:
        """Puts it in lost+found, under that name or one like it."""
        folder = self._lost_and_found(inode.domain)
        used = {each.name for each in self._inodes.values() if _is_in(each, folder.number)}
        free, count = name, 1
        while free in used:
            count += 1
            free = f"{name}-{count}"
        inode.parent, inode.name, inode.nlink = folder.number, free, 1
        self._result.moved.append(f"/{folder.name}/{free}: {why}".replace("//", "/"))

    def _make_missing_directories(self) -> None:
        wanted = {each.parent for each in self._inodes.values() if each.nlink} - set(self._inodes)
        for number in sorted(wanted):
            held = (each for each in self._inodes.values() if each.parent == number)
            domain = next((each.domain for each in held if each.nlink), 0)
            inode = self._make(number, stat.S_IFDIR | 0o700, "", domain=domain)
            self._move(inode, f"inode-{number}", "a directory whose record is gone")

    def _make_missing_volumes(self) -> None:
        parts = {
            part
            for each in self._inodes.values()
            if each.is_image
            for part in (each.skeleton, each.memory)
        }
        for number in sorted(set(self._pages) - set(self._inodes)):
            size = min(self._pages[number] * PAGE_SIZE, MAXIMUM_VOLUME_SIZE)
            inode = self._make(number, stat.S_IFREG | 0o600, "", size, self._domains.get(number, 0))
            self._remade.add(number)
            if number in parts and self._whole:
                inode.nlink = 0  # its image knows what is where
            else:
                why = "a volume whose record is gone; its size is that of the pages found"
                self._move(inode, f"inode-{number}", why)
        for number in sorted(self._pages):
            if not self._inodes[number].is_volume:
                self._result.dropped.add(number)
                self._result.gone.append(f"inode {number}: has pages, and is no volume")

    def _drop_broken_images(self) -> None:
        held: set[int] = set()
        for image in sorted(self._inodes.values(), key=lambda each: each.number):
            if not image.is_image:
                continue
            parts = (image.skeleton, image.memory)
            volumes = [self._inodes.get(part) for part in parts]
            sound = all(
                each is not None
                and each.is_volume
                and each.number not in held
                and (self._whole or each.number not in self._remade)
                for each in volumes
            )
            if sound and image.skeleton != image.memory:
                held.update(parts)
                continue
            del self._inodes[image.number]
            self._result.gone.append(
                f"inode {image.number} ({image.name!r}): an image of which a part is gone"
            )
            for each in volumes:
                if each is not None and each.is_volume and not each.nlink:
                    self._move(each, f"inode-{each.number}", f"a part of the image {image.name!r}")

    def _settle_orphans(self) -> None:
        """Files without a name were being removed, unless what named them may be gone."""
        held = {
            part
            for each in self._inodes.values()
            if each.is_image and each.nlink
            for part in (each.skeleton, each.memory)
        }
        sure = self._whole and not self._gone
        for inode in sorted(self._inodes.values(), key=lambda each: each.number):
            if inode.nlink or inode.number in held:
                continue
            if sure or not inode.is_volume:
                del self._inodes[inode.number]
                self._result.dropped.add(inode.number)
            else:
                why = "a volume without a name; it may have been a part of an image"
                self._move(inode, f"inode-{inode.number}", why)

    def _settle_places(self) -> None:
        """Every inode with a name has a directory, a name that is possible and unique there, and a
        way up to the root."""
        taken: dict[tuple[int, str], int] = {}
        for inode in sorted(self._inodes.values(), key=lambda each: each.number):
            if inode.number == Namespace.ROOT or not inode.nlink:
                continue
            name = inode.name if _is_possible(inode.name) else f"inode-{inode.number}"
            parent = self._inodes.get(inode.parent)
            if parent is None or not parent.is_directory:
                self._move(inode, name, "its directory is gone")
            elif name != inode.name or (parent.number, name) in taken:
                self._move(inode, name, "its name was damaged or taken")
            elif is_cut_off(self._inodes, inode):
                self._move(inode, name, "it was not reachable from the root")
            taken[inode.parent, inode.name] = inode.number

    def _count_links(self) -> None:
        directories: dict[int, int] = {}
        for inode in self._inodes.values():
            if inode.is_directory and inode.number != Namespace.ROOT:
                directories[inode.parent] = directories.get(inode.parent, 0) + 1
        for inode in self._inodes.values():
            if inode.is_directory:
                inode.nlink = 2 + directories.get(inode.number, 0)
            elif inode.nlink:
                inode.nlink = 1


def _is_in(inode: Inode, directory: int) -> bool:
    return inode.parent == directory and inode.nlink > 0 and inode.number != Namespace.ROOT


def _is_possible(name: str) -> bool:
    encoded = encode_name(name)
    return (
        bool(name) and "/" not in name and len(encoded) <= NAME_MAXIMUM and name not in (".", "..")
    )
