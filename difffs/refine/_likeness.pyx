# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: freethreading_compatible=False
"""Which pages belong together (native/likeness.h). The types are in _likeness.pyi."""
from libc.stdint cimport uint8_t, uint32_t

from array import array

cdef extern from "likeness.h" nogil:
    enum: LIKENESS_FEATURES
    struct likeness:
        uint32_t count
        uint32_t capacity
        uint32_t *features
    int likeness_init(likeness *self, uint32_t capacity)
    void likeness_free(likeness *self)
    void likeness_add(likeness *self, const uint8_t *page)
    int likeness_order(const likeness *self, uint32_t first, uint32_t end, uint32_t *order)

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

    def order(self, uint32_t first, uint32_t end):
        """The numbers of pages [first, end) in an order in which like ones are neighbours."""
        if first > end or end > self.native.count:
            raise IndexError(end)
        numbers = NUMBER * (end - first)
        if first == end:
            return numbers
        cdef uint32_t[::1] order = numbers
        cdef int failed
        with nogil:
            failed = likeness_order(&self.native, first, end, &order[0])
        if failed:
            raise MemoryError("likeness")
        return numbers
