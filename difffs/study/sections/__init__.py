"""The questions of the study, one module each; every module has NUMBER, NAME, TITLE and run()."""
