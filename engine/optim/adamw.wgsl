// adamw       g = factor · gradient;   m = β1·m + (1 − β1)·g;   v = β2·v + (1 − β2)·g²
//             p = p·decay − stepSize · m / (sqrt(v) / rootCorrection + ε);   nothing if control says "not finite"
// Work        one invocation per four elements.
// Memory      four arrays read, three written: 28 bytes per element. Bandwidth-bound.
@group(0) @binding(0) var<storage, read_write> value: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> moment1: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> moment2: array<vec4f>;
@group(0) @binding(3) var<storage, read> gradient: array<vec4f>;
@group(0) @binding(4) var<storage, read> control: array<f32>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u, @builtin(local_invocation_index) lane: u32) {
  let i = flatWorkgroup(group, groups) * 256u + lane;
  if (i >= params.size / 4u || control[params.controlBase + 2u] == 0.0) { return; }
  let at1 = params.moment1Base / 4u + i;
  let at2 = params.moment2Base / 4u + i;
  let at = params.valueBase / 4u + i;
  let g = control[params.controlBase] * gradient[params.gradientBase / 4u + i];
  let m = params.beta1 * moment1[at1] + params.oneMinusBeta1 * g;
  let v = params.beta2 * moment2[at2] + params.oneMinusBeta2 * (g * g);
  moment1[at1] = m;
  moment2[at2] = v;
  value[at] = value[at] * params.decay - params.stepSize * (m / (sqrt(v) / params.rootCorrection + params.epsilon));
}
