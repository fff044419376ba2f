"""What this host offers for each use of difffs, what it lacks, and the remedy for that.

One module a subject, each with its ``PROBES``. A probe looks at a :class:`~difffs.doctor.host.Host`
and changes nothing; what it cannot read is unknown, and why. :mod:`difffs.doctor.diagnosis` has all
of them. Only ``difffs doctor`` imports any of this.
"""
