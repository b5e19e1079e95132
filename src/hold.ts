// A folder → its raw events: through chokidar, through node:fs where that is too dear, or by polling. The only file that
// knows chokidar.

import { watch as watchFolder } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { sep } from 'node:path';
import { createPoller } from './poll.ts';
import type { Hold } from './tree.ts';

/** What is polled because it cannot be watched is looked at this often. */
const FALLBACK_POLL = 500;
/** A folder with more entries, and all folders after so many, are held without chokidar: see `hold`. */
const CHOKIDAR = { entries: 200, folders: 50 };

export interface Holder {
  hold(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold>;
  /** The first walk is over. */
  started(): void;
}

interface HolderOptions {
  readonly poll: number | false;
  accepts(file: string): boolean;
  onWarning(line: string): void;
}

// chokidar lists a folder and stats each entry in it at every event, and it keeps one watcher a path for the whole process,
// dead or alive, so crowded folders, the many of a big tree and those that come back are held by node:fs directly: 15 µs
// instead of 2 ms each, with the same events. What it polls it knows from its first round on only; see poll.ts.
export function createHolder({ poll, accepts, onWarning }: HolderOptions): Holder {
  let asked: Promise<Polling> | undefined;
  let polls = poll !== false;
  let first = true;
  const chokidars = new Set<string>();
  const poller = createPoller(async () => {
    const { usePolling, interval } = await polling();
    return (usePolling && interval) || FALLBACK_POLL; // CHOKIDAR_INTERVAL may be no number
  }, accepts);

  function polling(): Promise<Polling> {
    asked ??= readPolling(poll).then((it) => {
      polls = it.usePolling;
      return it;
    });
    return asked;
  }

  async function hold(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold> {
    await polling();
    if (polls) return poller.hold(dir, onEvent);
    try {
      return (await suitsChokidar(dir)) ? await chokidarFolder(dir, onEvent) : nodeFolder(dir, onEvent);
    } catch (error) {
      const code = codeOf(error);
      if (code !== 'ENOSPC' && code !== 'EMFILE') throw error;
      if (!polls) onWarning(limitReached(code));
      polls = true;
      return poller.hold(dir, onEvent);
    }
  }

  async function suitsChokidar(dir: string): Promise<boolean> {
    if (!first || chokidars.size >= CHOKIDAR.folders || chokidars.has(dir)) return false;
    if (misleadsChokidar(dir)) return false;
    chokidars.add(dir);
    return (await readdir(dir)).length <= CHOKIDAR.entries;
  }

  return {
    hold,
    started: () => {
      first = false;
    },
  };
}

interface Polling {
  readonly usePolling: boolean;
  /** Milliseconds */
  readonly interval: number;
}

/** CHOKIDAR_USEPOLLING and CHOKIDAR_INTERVAL have the last word, as in every tool with chokidar in it. */
async function readPolling(poll: number | false): Promise<Polling> {
  const { watch } = await import('chokidar');
  return watch([], { usePolling: poll !== false, interval: poll || 100 }).options;
}

function nodeFolder(dir: string, onEvent: (name: string | undefined) => void): Hold {
  const watcher = watchFolder(dir, (_, name) => onEvent(name ?? undefined));
  watcher.on('error', () => onEvent(undefined)); // on Windows: the folder was deleted
  return watcher;
}

async function chokidarFolder(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold> {
  // Loaded once the server listens already: requests come first.
  const { watch } = await import('chokidar');
  const self = dir.replaceAll('\\', '/');
  const watcher = watch(dir, {
    depth: 0,
    ignored: (file) => file !== self,
    ignoreInitial: true,
    atomic: false,
  });
  let lastEvent = -Infinity;
  watcher.on('raw', (_, name) => {
    lastEvent = performance.now();
    onEvent(name ?? undefined);
  });
  // Closed while it lists a folder, chokidar leaves a timer of a second behind.
  const close = async () => {
    const ms = 50 - (performance.now() - lastEvent);
    if (ms > 0) await new Promise((resolve) => setTimeout(resolve, ms));
    for (const listings of watcher._throttled?.values() ?? []) {
      for (const listing of listings.values()) clearTimeout(listing?.timeoutObject);
    }
    await watcher.close();
  };
  return new Promise((resolve, reject) => {
    watcher.once('ready', () => resolve({ close }));
    watcher.on('error', reject); // after that it means a folder that went away, which its parent tells too
  });
}

/** chokidar takes a backslash for a slash, which it is on Windows only. */
export function misleadsChokidar(dir: string, separator: string = sep): boolean {
  return separator === '/' && dir.includes('\\');
}

/** What to tell when the system holds no more folders: each has a limit of its own. */
export function limitReached(code: string, platform: NodeJS.Platform = process.platform): string {
  if (platform !== 'linux')
    return `Too many files are open (${code}); the rest is polled. Raise the limit: ulimit -n 65536`;
  const [name, value] =
    code === 'ENOSPC' ? ['fs.inotify.max_user_watches', 524288] : ['fs.inotify.max_user_instances', 1024];
  return `The system's limit of watches is reached (${code}); the rest is polled. Raise it: sudo sysctl ${name}=${value}`;
}

export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error ? String(error.code) : undefined;
}
