"""Metrics and columns of a live mount, from the mount point and from the store."""

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.harness import Mounted, difffs
from tests.pages import guest_memory


def test_metrics_of_a_mount(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(guest_memory(5, 200))
    mount.commit()
    assert (mount.path / "file").read_bytes()
    told = mount.statistics()
    for where in (mount.path, mount.store):
        text = difffs("stats", where, "--prometheus").stdout
        found = {family.name: family for family in text_string_to_metric_families(text)}
        assert {sample.labels["store"] for sample in found["difffs_pages"].samples} == {
            str(mount.store)
        }
        assert sum(sample.value for sample in found["difffs_pages"].samples) == 200
        assert found["difffs_store_mounted"].samples[0].value == 1
        assert found["difffs_daemon_resident_bytes"].samples[0].value > 1 << 20
        assert found["difffs_decoded_pages"].type == "counter"
        settings = {sample.labels["setting"] for sample in
                    found["difffs_kernel_setting_applied"].samples}  # fmt: skip
        assert settings == {entry["setting"] for entry in told["kernel_settings"]}
    shown = difffs("stats", mount.path, "-n", "--output", "store,mountpoint,pages").stdout
    assert shown.split() == [str(mount.store), str(mount.path), "200"]
