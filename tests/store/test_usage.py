"""What a volume takes of its store."""

from pathlib import Path
from random import Random

import pytest

from difffs._kernels import TABLE_BYTES, TABLE_ENTRIES
from difffs.usage import VolumeUsage
from tests.pages import PAGE, guest_memory
from tests.stores import OpenStore


def test_a_payload_is_divided_among_the_pages_that_refer_to_it(tmp_path: Path) -> None:
    opened = OpenStore(tmp_path / "s", "identical-only")  # payloads are whole pages
    one, two, empty = (opened.new_volume(name, 4000) for name in ("one", "two", "empty"))
    shared, alone = Random(1).randbytes(PAGE), Random(2).randbytes(PAGE)
    opened.write(one, 0, shared + bytes(PAGE) + alone)
    opened.write(two, 2 * TABLE_ENTRIES, shared)
    opened.engine.commit()
    assert opened.store.volume_usage(one) == VolumeUsage(3, 1, 1.5 * PAGE + TABLE_BYTES)
    assert opened.store.volume_usage(two) == VolumeUsage(1, 0, 0.5 * PAGE + TABLE_BYTES)
    assert opened.store.volume_usage(empty) == VolumeUsage()
    opened.close()


@pytest.mark.parametrize("recipe", ["default", "compress-only"])
def test_volumes_together_take_all_payloads_but_those_of_patches_alone(
    tmp_path: Path, recipe: str
) -> None:
    opened = OpenStore(tmp_path / "s", recipe)
    for number in range(3):
        volume = opened.new_volume(f"v{number}", 3000)
        opened.write(volume, 0, guest_memory(number % 2, 2500))
    opened.engine.commit()
    store = opened.store
    usages = [store.volume_usage(inode.number) for inode in store.namespace.volumes()]
    tables = 3 * TABLE_BYTES * 3
    payload = store.occupancy().payload
    assert sum(usage.pages for usage in usages) == store.page_counts()["total"]
    assert sum(usage.zero for usage in usages) == store.page_counts()["zero"]
    assert payload * 0.95 <= sum(usage.stored for usage in usages) - tables <= payload + 1
    opened.close()
