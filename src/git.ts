// Is git changing the working tree right now? It holds `index.lock` from the first file to the last, which tells the end
// of a checkout exactly, however slow the machine is.

import { readFileSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';

/** A lock older than this (ms) was left behind by a git that was killed. */
const LEFT_BEHIND = 10_000;

/** The lock of the repository that the folder is in, if it is in one. */
export function findLock(dir: string): string | undefined {
  for (let at = dir; ; at = dirname(at)) {
    const entry = join(at, '.git');
    const stats = statSync(entry, { throwIfNoEntry: false });
    if (stats?.isDirectory()) return join(entry, 'index.lock');
    if (stats?.isFile()) return lockOfWorktree(at, entry);
    if (dirname(at) === at) return undefined;
  }
}

// In worktrees and submodules `.git` is a file that names the folder: gitrepository-layout(5).
function lockOfWorktree(dir: string, entry: string): string | undefined {
  const [, path] = /^gitdir: (.+)/.exec(readFileSync(entry, 'utf8')) ?? [];
  return path === undefined ? undefined : resolve(dir, path, 'index.lock');
}

/** Does a git command that is alive hold the lock? */
export function isLocked(lock: string): boolean {
  const stats = statSync(lock, { throwIfNoEntry: false });
  return stats !== undefined && Date.now() - stats.mtimeMs < LEFT_BEHIND;
}
