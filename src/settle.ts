// Raw events of files → looks at quiet moments → batches. Only the timing is here: what a look finds, and how, is the
// caller's business.

import { type Found, merge } from './events.ts';

/** All in ms. A save of one file is looked at so long after its last event; the rest are bounds for the unusual. */
const QUIET = 4;
/** Pages take these in place: should its sibling be told in an event of its own, that does no harm. */
const QUIET_IN_PLACE = 1;
const IN_PLACE = /\.(?:css|html?)$/i;
/** A file that is written without a pause is looked at after this time. */
const WRITING = 500;
/** What has settled waits no longer for files of its batch that have not. */
const HELD = 1000;
/** In a burst, the pause that ends it; and how long it may go on before what has settled is told. */
const BURST_QUIET = 60;
const BURST_LASTS = 5000;
/** The pause after something that follows a batch closely: it may be the second file of a burst. */
const FOLLOWING_QUIET = 20;
const FOLLOWS = 100;
/** More files than this at once are a burst; the pauses in one of many are longer. */
const BURST_FILES = 8;
const MANY_FILES = 50;
const MANY_QUIET = 150;
/** Looks at the same time; more only queue up behind libuv's four threads. */
const LOOKS = 16;
/** How long settled() waits at most; and for a file that grows. */
const PATIENCE = 1000;
const PATIENCE_GROWING = 5000;

/** One save under way, as the look may see and mark it. */
export interface Save {
  /** performance.now() of its first event. */
  readonly first: number;
  /** The file looks like a part of what is being written: its size, since when, and how long (ms) that is given time. */
  part?: { readonly size: number; readonly since: number; readonly patience: number };
}

/** What a look gives: changes to tell (none: nothing happened), or the time in ms after which to look again. */
export type Look = readonly Found[] | number;

export interface Settle {
  /** Something happened to the file. */
  touch(file: string): void;
  has(file: string): boolean;
  /** Resolves when no save of the file is under way; to `false` if that was waited for in vain. */
  settled(file: string): Promise<boolean>;
  /** Resolves when all that has happened so far is told. */
  idle(): Promise<void>;
  /** No look is started, nothing is told from now on; resolves when the looks under way are over. */
  close(): Promise<void>;
}

interface Pending extends Save {
  timer: NodeJS.Timeout;
  /** Events so far. */
  events: number;
  looking: boolean;
  /** performance.now() of the last look, or the first event. */
  looked: number;
  readonly done: Promise<void>;
  readonly finish: () => void;
}

export function createSettle(
  look: (file: string, save: Save) => Promise<Look>,
  onBatch: (changes: readonly Found[], since: number) => void,
  /** Is somebody in the middle of changing many files? */
  isBusy = () => false,
): Settle {
  const pending = new Map<string, Pending>();
  const ripe: string[] = [];
  const looks = new Set<Promise<void>>();

  let batch = new Map<string, Found>();
  let previous: ReadonlyMap<string, Found> = batch;
  let since: number | undefined; // first event of the batch
  let settledAt = 0; // first change of the batch
  let files = 0; // saves begun since then
  let lastEvent = 0;
  let lastBatch = -Infinity;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  const resting: (() => void)[] = [];

  function touch(file: string): void {
    if (closed) return;
    const now = performance.now();
    lastEvent = now;
    const save = pending.get(file);
    if (!save) {
      begin(file, now);
      return;
    }
    save.events++;
    if (!save.looking && now - save.looked < WRITING) wait(file, save, quietOf(file));
  }

  function begin(file: string, now: number): void {
    since ??= now;
    files++;
    let finish = () => {};
    const done = new Promise<void>((resolve) => {
      finish = resolve;
    });
    const timer = setTimeout(ripen, quietOf(file), file);
    pending.set(file, { first: now, events: 1, looking: false, looked: now, timer, done, finish });
  }

  function wait(file: string, save: Pending, ms: number): void {
    clearTimeout(save.timer);
    save.timer = setTimeout(ripen, ms, file);
  }

  function ripen(file: string): void {
    ripe.push(file);
    lookOn();
  }

  function lookOn(): void {
    while (looks.size < LOOKS) {
      const file = ripe.shift();
      if (file === undefined) return;
      const save = pending.get(file);
      if (!save || save.looking) continue;
      save.looking = true;
      const over = lookAt(file, save).then(() => {
        looks.delete(over);
        lookOn();
        flush();
      });
      looks.add(over);
    }
  }

  async function lookAt(file: string, save: Pending): Promise<void> {
    const events = save.events;
    save.looked = performance.now();
    const found = await look(file, save);
    if (closed) return;
    save.looking = false;
    const moved = save.events !== events;
    if (typeof found === 'number') return wait(file, save, moved ? quietOf(file) : found);
    for (const change of found) add(change);
    // What happened during the look may not have been seen by it. It is a save of its own, so that this one can be told.
    pending.delete(file);
    save.finish();
    if (moved) begin(file, performance.now());
  }

  function add(change: Found): void {
    if (batch.size === 0) settledAt = performance.now();
    const merged = merge(batch.get(change.file), change);
    if (merged) batch.set(change.file, merged);
    else batch.delete(change.file);
  }

  function flush(): void {
    clearTimeout(timer);
    if (closed) return;
    if (batch.size === 0) {
      if (pending.size === 0) restart();
      rest();
      return;
    }
    const ms = pause();
    if (ms > 0) timer = setTimeout(flush, ms);
    else tell();
  }

  /** How long the batch has to wait yet. */
  function pause(): number {
    const now = performance.now();
    const waited = now - settledAt;
    const quiet = quietNeeded(now);
    const isBurst = quiet >= BURST_QUIET;
    if (isBurst && waited >= BURST_LASTS) return 0;
    if (pending.size > 0) return (isBurst ? BURST_LASTS : HELD) - waited;
    if ((files > 1 || quiet > 0) && waited < BURST_LASTS && isBusy()) return FOLLOWING_QUIET;
    return quiet - (now - lastEvent);
  }

  function quietNeeded(now: number): number {
    if (files > MANY_FILES) return MANY_QUIET;
    if (files > BURST_FILES) return BURST_QUIET;
    const follows = now - lastBatch < FOLLOWS && [...batch.keys()].some((file) => !previous.has(file));
    if (!follows) return 0;
    return files > 1 ? BURST_QUIET : FOLLOWING_QUIET;
  }

  function tell(): void {
    const changes = [...batch.values()];
    const first = since ?? settledAt;
    previous = batch;
    batch = new Map();
    lastBatch = performance.now();
    restart();
    onBatch(changes, first);
    rest();
  }

  function rest(): void {
    if (pending.size > 0 || batch.size > 0) return;
    for (const wake of resting.splice(0)) wake();
  }

  function restart(): void {
    files = pending.size;
    since = undefined;
    for (const save of pending.values()) since = Math.min(since ?? save.first, save.first);
  }

  return {
    touch,
    has: (file) => pending.has(file),
    async settled(file) {
      const begun = performance.now();
      for (let save = pending.get(file); save; save = pending.get(file)) {
        const patience = save.part?.size ? PATIENCE_GROWING : PATIENCE;
        const left = begun + patience - performance.now();
        if (left <= 0) return false;
        await over(save, left);
      }
      return true;
    },
    async idle() {
      if (closed || (pending.size === 0 && batch.size === 0)) return;
      await new Promise<void>((resolve) => resting.push(resolve));
    },
    async close() {
      closed = true;
      for (const wake of resting.splice(0)) wake();
      clearTimeout(timer);
      for (const save of pending.values()) {
        clearTimeout(save.timer);
        save.finish();
      }
      pending.clear();
      await Promise.all(looks);
    },
  };
}

function quietOf(file: string): number {
  return IN_PLACE.test(file) ? QUIET_IN_PLACE : QUIET;
}

async function over(save: Pending, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([save.done, late]);
  clearTimeout(timer);
}
