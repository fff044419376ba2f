"""Memory images: what unpacks and repacks them. Each is needed for one kind of image only."""

from difffs.doctor.check import Probe
from difffs.doctor.packages import package_probe, program_probe


def _compressor(program: str, package: str, what_for: str) -> Probe:
    return program_probe(f"images.{program}", program, package, what_for, "images")


def _repacks(program: str, package: str) -> Probe:
    return _compressor(
        program,
        package,
        f"export --recompress uses a library instead, whose bytes may not be those of {program}",
    )


PROBES = (
    _compressor(
        "lzop", "lzop", "images and saves of libvirt that lzop compressed stay as they are"
    ),
    _repacks("gzip", "gzip"),
    _repacks("bzip2", "bzip2"),
    _repacks("xz", "xz-utils"),
    _repacks("zstd", "zstd"),
    package_probe(
        "images.package.xxhash",
        "xxhash",
        "no image can be imported, nor read in a mount",
        "images",
        least=(3, 4),
    ),
    package_probe(
        "images.package.zstandard",
        "zstandard",
        "images that zstd compressed, and kdump files with such pages, cannot be read",
        "images",
        least=(0, 22),
    ),
    package_probe(
        "images.package.cramjam",
        "cramjam",
        "AVML images and kdump files with snappy pages cannot be read",
        "images",
        least=(2, 8),
    ),
    package_probe(
        "images.package.python-lzo",
        "python-lzo",
        "kdump files with lzo pages cannot be read",
        "images",
        remedy="apt install gcc python3-dev liblzo2-dev; pip install python-lzo",
        rare=True,  # only makedumpfile makes them, where it was built so and told to
    ),
)
