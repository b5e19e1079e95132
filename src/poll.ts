// A folder → its raw events, by looking at it again and again. What an entry was at one look is compared with what it is at
// the next, so that no change is lost, however late the next look comes.

import { lstat, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isSince } from './survey.ts';
import type { Hold } from './tree.ts';

/** Two changes within one tick (ms) of the clock of files look like one. Some file systems keep whole or even seconds only. */
const TICK = 20;
const COARSE_TICK = 2500;
/** Of the time between two rounds, looking takes a third at the most. */
const REST = 2;
/** Entries looked at at the same time: libuv has four threads, and requests want some of them. */
const AT_ONCE = 2;

/** What an entry was at the last look. */
interface Seen {
  readonly mark: string;
  /** performance.now() from when on it is looked at once more: another change may have got the same time. */
  again?: number;
}

interface Polled {
  readonly dir: string;
  readonly seen: Map<string, Seen>;
  readonly onEvent: (name: string | undefined) => void;
}

export interface Poller {
  /** Resolves after the first look: each later change is told. */
  hold(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold>;
}

/** Polls folders, all of them every `interval` ms. `accepts`: does the entry count? */
export function createPoller(interval: () => Promise<number>, accepts: (file: string) => boolean): Poller {
  const folders = new Set<Polled>();
  let going = false;
  /** The round under way. */
  let looking: Promise<void> = Promise.resolve();
  let wake = () => {};

  async function hold(dir: string, onEvent: (name: string | undefined) => void): Promise<Hold> {
    const folder: Polled = { dir, seen: new Map(), onEvent };
    await look(folder, true);
    folders.add(folder);
    if (!going) void go();
    const close = async () => {
      folders.delete(folder);
      if (folders.size === 0) wake();
      await looking;
    };
    return { close };
  }

  async function go(): Promise<void> {
    going = true;
    const ms = await interval();
    let took = 0;
    while (folders.size > 0) {
      await pause(Math.max(ms, took * REST));
      const begun = performance.now();
      looking = lookAtAll();
      await looking;
      took = performance.now() - begun;
    }
    going = false;
  }

  async function lookAtAll(): Promise<void> {
    for (const folder of folders) await look(folder).catch(() => folder.onEvent(undefined)); // gone, most likely
  }

  function pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  async function look({ dir, seen, onEvent }: Polled, first = false): Promise<void> {
    const names = new Set((await readdir(dir)).filter((name) => accepts(join(dir, name))));
    const queue = names.values();
    const work = async () => {
      for (const name of queue) {
        const before = seen.get(name);
        const now = await see(join(dir, name), before, first);
        if (now === before) continue;
        if (now) seen.set(name, now);
        else names.delete(name);
        if (now && !first) onEvent(name);
      }
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    for (const name of seen.keys()) {
      if (names.has(name)) continue;
      seen.delete(name);
      onEvent(name);
    }
  }

  return { hold };
}

/** The same object: nothing happened. `undefined`: there is no such entry. */
async function see(file: string, before: Seen | undefined, first: boolean): Promise<Seen | undefined> {
  const begun = Date.now();
  const stats = await lstat(file).catch(() => undefined);
  if (!stats) return undefined;
  const { ino, size, mtimeMs, ctimeMs } = stats;
  // What happens in a folder is told by its entries.
  if (stats.isDirectory()) return before?.mark === `${ino}` ? before : { mark: `${ino}` };
  const mark = `${ino} ${size} ${mtimeMs} ${ctimeMs}`;
  const now = performance.now();
  if (before?.mark === mark) return before.again === undefined || now < before.again ? before : { mark };
  if (first && !isSince(begun - TICK, stats)) return { mark };
  return { mark, again: now + (ctimeMs % 1000 === 0 ? COARSE_TICK : TICK) };
}
