// --run: changes of sources → runs of a command; what a good run changed → one batch. Meanwhile pages can wait.

import { type Change, type Failure, type Found, merge } from './events.ts';
import { createRunner } from './run.ts';

export interface BuildOptions {
  /** A newer change ends the run under way. */
  readonly kill: boolean;
  /** Is the command run when this file changes? */
  readonly isSource: (file: string) => boolean;
  /** Resolves when every change on the disk so far was given to `take`. */
  readonly quiet: () => Promise<void>;
  /** A batch for the pages; `since` is the performance.now() of its first change. */
  readonly publish: (changes: readonly Change[], since: number) => void;
  /** Sources have changed: a run follows. */
  readonly onSources: (changes: readonly Change[], since: number) => void;
  /** Run after run has changed its own sources, this file last. */
  readonly onLoop: (file: string) => void;
  readonly onOutput: (text: string | Buffer) => void;
  /** A run was good: the failure of an earlier one stands no longer. What it changed is published next. */
  readonly onGood: () => void;
  /** A run has ended; without a failure it was good, and what it changed is published. */
  readonly onEnd: (ms: number, failure?: Failure) => void;
}

export interface Build {
  /** Runs the command for the first time. */
  start(): void;
  /** Takes a batch of the watcher. */
  take(changes: readonly Found[], since: number): void;
  /** Somebody has asked for what is not there: should it come back as it was, that is news. */
  missed(): void;
  /** Whether what is served is whole: waits for a run under way, `ms` at the most. */
  isDone(ms: number): Promise<boolean>;
  close(): Promise<void>;
}

/** So many runs in a row during which a source has changed are the command's own doing. */
const LOOP = 10;

export function createBuild(command: string, options: BuildOptions): Build {
  const { kill, isSource, quiet, publish, onSources, onLoop, onOutput, onGood, onEnd } = options;
  let held: Found[] = [];
  let heldSince = 0;
  /** What is held away from the pages, is that all they could know? */
  let isUnseen = true;
  let chained = 0;
  /** Resolves when the last run and all that follows from it are over. */
  let settled: Promise<void> | undefined;
  let ending: Promise<void> = Promise.resolve();

  const runner = createRunner(command, {
    kill,
    onOutput,
    onEnd: (outcome) => {
      ending = end(outcome.ms, outcome.ok ? undefined : outcome.failure);
    },
  });

  async function end(ms: number, failure?: Failure): Promise<void> {
    await quiet();
    if (!failure) onGood();
    // From here on pages are answered again, with what there is.
    else if (held.length > 0) isUnseen = false;
    // What a failed run has changed, and what the next one is about to, waits: half a build is not to be seen.
    if (!failure && !runner.running) release();
    onEnd(ms, failure);
  }

  function release(): void {
    const merged = new Map<string, Found>();
    for (const found of held) {
      const change = merge(merged.get(found.file), found);
      if (change || !isUnseen) merged.set(found.file, change ?? found);
      else merged.delete(found.file);
    }
    // Many commands begin by deleting what they make.
    const isSame = ({ before, after }: Found) => isUnseen && before !== undefined && before === after;
    const changes = [...merged.values()].filter((found) => !isSame(found));
    held = [];
    isUnseen = true;
    if (changes.length > 0) publish(changes, heldSince);
  }

  function trigger(): void {
    runner.trigger();
    const run = runner.idle.then(() => ending);
    settled = run;
    void run.then(() => {
      if (settled === run) settled = undefined;
    });
  }

  function hold(changes: readonly Found[], since: number): void {
    if (held.length === 0) heldSince = since;
    held.push(...changes);
  }

  return {
    start: trigger,
    take(changes, since) {
      const sources = changes.filter(({ file }) => isSource(file));
      const outputs = changes.filter(({ file }) => !isSource(file));
      const wasIdle = !settled;
      if (sources.length > 0) {
        chained = settled ? chained + 1 : 0;
        if (chained === LOOP) onLoop(sources[0]?.file ?? '');
        onSources(sources, since);
        trigger();
      }
      if (outputs.length === 0) return;
      if (!settled) return publish(outputs, since);
      // They are older than the run.
      if (wasIdle) isUnseen = false;
      hold(outputs, since);
    },
    missed() {
      if (settled) isUnseen = false;
    },
    async isDone(ms) {
      let timer: NodeJS.Timeout | undefined;
      const late = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, ms);
      });
      await Promise.race([settled, late]);
      clearTimeout(timer);
      return settled === undefined;
    },
    close: () => runner.close(),
  };
}
