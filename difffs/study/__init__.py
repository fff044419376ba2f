"""The study: what each mechanism is worth on memory images, measured with the product's engine."""
