// A small file system in memory, for tests of full disks. Mounting one needs Linux and root.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";

const run = (command: string, ...args: string[]): boolean => spawnSync(command, args, { stdio: "ignore" }).status === 0;

export class SmallDisk {
  readonly folder: string;
  /** Whether it can be mounted here; if not, why. */
  readonly missing: string | null;

  /** @param folder  made if it is not there */
  constructor(folder: string) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
    this.missing = this.mount("size=1m") ? null : "mounting a file system needs root";
    if (this.missing === null) this.unmount();
  }

  /** @param options  of tmpfs: "size=64m" */
  mount(options: string): boolean {
    return run("mount", "-t", "tmpfs", "-o", options, "tmpfs", this.folder);
  }

  unmount(): void {
    run("umount", this.folder);
  }

  /** Runs a test on a mounted disk, and unmounts it. */
  async with(options: string, body: () => unknown): Promise<void> {
    if (!this.mount(options)) throw new Error(`${this.folder} could not be mounted with ${options}`);
    try {
      await body();
    } finally {
      this.unmount();
    }
  }
}
