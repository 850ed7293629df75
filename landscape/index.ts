// The landscape floor's public face.

export { studySettings } from "./settings.ts";
export { runStudy } from "./study.ts";
