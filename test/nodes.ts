// The Nodes that live-sse is for, each installed from the registry into a folder of its own that git ignores.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The oldest that package.json allows, those that have long-term support, and the newest. */
const RANGES = ['20.19', '22', '24', 'latest'];

export interface InstalledNode {
  readonly version: string;
  /** The executable. */
  readonly path: string;
}

/** Installs what is missing, and gives each. */
export function installNodes(): InstalledNode[] {
  return RANGES.map((range) => {
    const path = installed(range);
    return { version: execFileSync(path, ['--version'], { encoding: 'utf8' }).trim().slice(1), path };
  });
}

function installed(range: string): string {
  const dir = fileURLToPath(new URL(`../.nodes/${range}/`, import.meta.url));
  const path = join(dir, 'node_modules/node/bin', process.platform === 'win32' ? 'node.exe' : 'node');
  if (existsSync(path)) return path;
  console.log(`Installing Node ${range} …`);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'package.json'), '{ "private": true }\n'); // npm would go up to ours
  // On Windows npm is a script, which only a shell runs; the names are our own.
  const options = { cwd: dir, stdio: ['ignore', 'ignore', 'inherit'], shell: process.platform === 'win32' };
  execFileSync(
    'npm',
    ['install', '--no-audit', '--no-fund', '--loglevel=error', `node@${range}`],
    options as object,
  );
  if (existsSync(path)) return path;
  throw new Error(`npm has installed node@${range}, but there is no "${path}": delete ${dir} and try again`);
}
