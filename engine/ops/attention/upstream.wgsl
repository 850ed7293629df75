// dy as it is.
fn upstreamOf(given: Vector) -> Vector { return given; }
