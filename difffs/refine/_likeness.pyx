# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: freethreading_compatible=False
"""Which pages belong together (native/likeness.h). The types are in _likeness.pyi."""
from libc.stdint cimport uint8_t, uint32_t

from array import array

cdef extern from "likeness.h" nogil:
    enum: LIKENESS_FEATURES
    enum: LIKENESS_PAGES_MOST
    enum: LIKENESS_STRETCH_MOST
    struct likeness:
        uint32_t count
        uint32_t capacity
        uint32_t *features
    int likeness_init(likeness *self, uint32_t capacity)
    void likeness_free(likeness *self)
    void likeness_add(likeness *self, const uint8_t *page)
    struct likeness_limits:
        uint32_t pages
        uint32_t budget
        uint32_t stretch
        uint32_t region
    int likeness_groups(const likeness *self, const likeness_limits *limits, uint32_t *order,
                        uint32_t *ends, uint32_t *groups)

cdef enum:
    PAGE_BYTES = 4096

cdef object NUMBER = array("I", [0])


cdef class Likeness:
    """The features of up to `capacity` pages, by which like ones are found."""
    cdef likeness native

    def __cinit__(self, uint32_t capacity):
        if likeness_init(&self.native, capacity):
            raise MemoryError("likeness")

    def __dealloc__(self):
        likeness_free(&self.native)

    def __len__(self):
        return self.native.count

    def add(self, const uint8_t[::1] pages not None):
        """Takes whole pages, which get the next numbers."""
        cdef Py_ssize_t count = pages.shape[0] // PAGE_BYTES
        cdef Py_ssize_t i
        if count * PAGE_BYTES != pages.shape[0]:
            raise ValueError("not whole pages")
        if count > <Py_ssize_t>(self.native.capacity - self.native.count):
            raise ValueError("more pages than there is room for")
        with nogil:
            for i in range(count):
                likeness_add(&self.native, &pages[i * PAGE_BYTES])

    def features(self, uint32_t page):
        """Of one page; 0 where it has none."""
        if page >= self.native.count:
            raise IndexError(page)
        return [self.native.features[page * LIKENESS_FEATURES + i]
                for i in range(LIKENESS_FEATURES)]

    def groups(self, uint32_t pages, uint32_t budget, uint32_t stretch=256, uint32_t region=1024):
        """All pages in groups of up to `pages` like ones: arrays of their numbers. Any `stretch` of
        them that begins at a multiple of it is in no more than `budget` groups. `region`: pages in a
        row within which likeness decides over place also where it is weak."""
        if not (0 < pages <= LIKENESS_PAGES_MOST and 0 < stretch <= LIKENESS_STRETCH_MOST
                and region > 0):
            raise ValueError("no such groups")
        if budget < (stretch + pages - 1) // pages + 1:
            raise ValueError("a budget that cannot be kept")
        cdef uint32_t count = self.native.count
        if count == 0:
            return []
        numbers, bounds = NUMBER * count, NUMBER * count
        cdef uint32_t[::1] order = numbers
        cdef uint32_t[::1] ends = bounds
        cdef likeness_limits limits = likeness_limits(pages, budget, stretch, region)
        cdef uint32_t found = 0
        cdef int failed
        with nogil:
            failed = likeness_groups(&self.native, &limits, &order[0], &ends[0], &found)
        if failed:
            raise MemoryError("likeness")
        return [numbers[(bounds[i - 1] if i else 0):bounds[i]] for i in range(found)]
