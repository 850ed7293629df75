// If the number of workgroups exceeds the adapter's limit for one axis, it is folded into two axes; this undoes it. If the number
// does not divide evenly, there are workgroups past the end, so a kernel checks its index against its params.
fn flatWorkgroup(group: vec3u, groups: vec3u) -> u32 {
  return group.x + group.y * groups.x;
}
