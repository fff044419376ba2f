"""Whether another process has the same difffs."""

import difffs
from difffs.study.installation import difference, installation


def test_this_one_is_the_same_as_itself() -> None:
    found = installation()
    assert found["difffs"] == difffs.__version__
    assert {"libzstd", "liblzma", "numpy", "difffs' modules"} <= found.keys()
    assert difference(dict(found)) == ""


def test_differences_are_named() -> None:
    here = installation()
    assert difference({**here, "difffs": "9"}) == f"difffs {difffs.__version__} and not 9"
    assert difference({**here, "liblzo": "2"}) == "liblzo is missing and not 2"
    modules = here["difffs' modules"]
    changed = difference({**here, "difffs' modules": "0" * 12})
    assert changed == f"difffs' modules {modules} and not {'0' * 12}"
