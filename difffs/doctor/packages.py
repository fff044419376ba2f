"""Programs and Python packages: the probes that images and the study have in common."""

from difffs.doctor.check import Answer, Probe, Use, limited, missing, off, ok, probe
from difffs.doctor.host import Host


def program_probe(name: str, program: str, package: str, what_for: str, *uses: Use) -> Probe:
    """Look for a program of a Debian package; say what is left out without it."""

    @probe(name, *uses)
    def look(host: Host) -> Answer:
        path = host.program(program)
        if path is None:
            return missing(f"no {program}: {what_for}", f"apt install {package}")
        return ok(path)

    return look


def package_probe(
    name: str,
    package: str,
    what_for: str,
    *uses: Use,
    least: tuple[int, ...] = (0,),
    below: tuple[int, ...] | None = None,
    remedy: str | None = None,
    rare: bool = False,
) -> Probe:
    """Look for a Python package from version ``least`` on, and ``below`` another. To lack one that
    is needed for what is ``rare`` is no finding."""
    wanted = f"{package}>={'.'.join(map(str, least))}" if any(least) else package
    if below is not None:
        wanted += f",<{'.'.join(map(str, below))}"
    cure = remedy or f"pip install '{wanted}'"

    @probe(name, *uses)
    def look(host: Host) -> Answer:
        version = host.package_version(package)
        if version is None:
            return (off if rare else missing)(f"no Python package {package}: {what_for}", cure)
        numbers = leading_numbers(version)
        if numbers < least or (below is not None and numbers >= below):
            return limited(f"{package} {version}, and {wanted} is needed: {what_for}", cure)
        return ok(f"{package} {version}")

    return look


def leading_numbers(version: str) -> tuple[int, ...]:
    """The numbers that a version begins with: (1, 7, 5) of ``1.7.5rc2``."""
    numbers = []
    for part in version.split("."):
        digits = len(part) - len(part.lstrip("0123456789"))
        if not digits:
            break
        numbers.append(int(part[:digits]))
        if digits < len(part):
            break
    return tuple(numbers)
