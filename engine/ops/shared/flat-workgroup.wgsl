// A single count of workgroups beyond the adapter's limit on an axis is folded into two axes; this undoes it. Workgroups
// past the count exist where it did not divide evenly, so a kernel checks its index against its params.
fn flatWorkgroup(group: vec3u, groups: vec3u) -> u32 {
  return group.x + group.y * groups.x;
}
