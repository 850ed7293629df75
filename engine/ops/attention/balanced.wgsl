// Later tokens of a sequence see more keys, and earlier keys are seen by more tokens. lavapipe gives each core an equal run of
// neighbouring workgroups. Taken from both ends in turn, tiles make such runs equal in work too: 0, last, 1, last − 1, …
fn balanced(place: u32, count: u32) -> u32 {
  if (place >= count) { return place; }
  return select(place / 2u, count - 1u - place / 2u, place % 2u == 1u);
}
