"""The configuration: ``difffs.conf``, an ini file of mounts and swap areas.

``syntax`` reads the text of one file, ``files`` finds the files and lays them over each other,
``keys`` says what may stand in a section and what it means.
"""
