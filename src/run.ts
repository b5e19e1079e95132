// A command that is run again after changes: one run at a time, its output passed on, its failure made ready for the
// pages, and no process of it left behind. When it is to run, and what pages do meanwhile, is decided elsewhere.

import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Failure } from './events.ts';
import { withoutFolders } from './failure.ts';

/** Bytes of a command's output that a failure shows. */
const KEPT_OUTPUT = 16_384;
/** Milliseconds from SIGTERM to SIGKILL: a server that is asked to stop has a second. */
const PATIENCE = 500;
/** Milliseconds that killed processes have to vanish. */
const AFTERMATH = 200;
/** Milliseconds that the last output has to arrive, after the command has ended. */
const DRAINING = 1000;

/** Loaded when it is needed: most servers run no command. */
const children = (): typeof import('node:child_process') =>
  createRequire(import.meta.url)('node:child_process');

const POSIX = process.platform !== 'win32';

/** How a run came to its end; `ms` is what it took. */
export type Outcome =
  | { readonly ok: true; readonly ms: number }
  | { readonly ok: false; readonly ms: number; readonly failure: Failure };

export interface RunOptions {
  /** @default the working folder of the process */
  cwd?: string;
  /** A newer change ends the run under way. @default false: the command runs again after it has ended */
  kill?: boolean;
  /** Added to the environment of the process; `undefined` takes a variable out. */
  env?: NodeJS.ProcessEnv;
  /** Hears the command's output as it comes. */
  onOutput?(text: string | Buffer, stream: 'stdout' | 'stderr'): void;
  /** A run begins. */
  onStart?(): void;
  /** A run came to its end. Not called for a run that was ended by a newer change or by `close()`. */
  onEnd?(outcome: Outcome): void;
}

export interface Runner {
  /** Runs the command, or asks for another run after the one under way, however often it is called meanwhile. */
  trigger(): void;
  /** Resolves when no run is under way or due. */
  readonly idle: Promise<void>;
  /** A run is under way or due. */
  readonly running: boolean;
  /** Ends the run under way with all its processes, within a second; from then on `trigger()` does nothing. */
  close(): Promise<void>;
}

interface Run {
  /** `undefined` if the run was ended before it came to its end by itself. */
  readonly outcome: Promise<Outcome | undefined>;
  end(): void;
}

interface Settings extends Pick<RunOptions, 'onOutput'> {
  readonly cwd: string;
  readonly env: NodeJS.ProcessEnv;
}

/**
 * Runs a command of the platform's shell whenever it is asked to, never twice at once. A run has a process group of its
 * own: what the command leaves behind in it ends with the run, and all of it ends with the server, also when that is
 * killed (not on Windows, where only the command itself is sure to end then). Nothing runs before the first `trigger()`.
 */
export function createRunner(command: string, options: RunOptions = {}): Runner {
  const { kill = false, onStart, onEnd, onOutput } = options;
  const settings = { cwd: resolve(options.cwd ?? '.'), env: environment(options.env), onOutput };
  let run: Run | undefined;
  let due = false;
  let running = false;
  let closed = false;
  let idle = Promise.resolve();

  async function work(): Promise<void> {
    try {
      while (due && !closed) {
        due = false;
        onStart?.();
        if (closed) return;
        run = start(command, settings);
        const outcome = await run.outcome;
        run = undefined;
        if (outcome && !closed) onEnd?.(outcome);
      }
    } finally {
      running = false;
    }
  }

  return {
    get idle() {
      return idle;
    },
    get running() {
      return running;
    },
    trigger() {
      if (closed) return;
      due = true;
      if (running) {
        if (kill) run?.end();
        return;
      }
      running = true;
      idle = work();
    },
    close() {
      closed = true;
      run?.end();
      return idle;
    },
  };
}

/** Most tools write no colours into a pipe unless they are told to. */
function environment(added: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const env = { ...process.env, ...added };
  const decided = env.NO_COLOR !== undefined || env.FORCE_COLOR !== undefined;
  return process.stdout.isTTY && !decided ? { ...env, FORCE_COLOR: '1' } : env;
}

function start(command: string, settings: Settings): Run {
  try {
    return follow(command, settings);
  } catch (error) {
    // Most failures of spawn() are events; a command line that is too long is thrown.
    const exit = { error: error instanceof Error ? error : new Error(String(error)) };
    const failure = failureOf(command, exit, { cwd: settings.cwd, output: '' });
    return { outcome: Promise.resolve({ ok: false, ms: 0, failure }), end() {} };
  }
}

function follow(command: string, { cwd, env, onOutput }: Settings): Run {
  const begin = performance.now();
  const child = children().spawn(command, {
    shell: true,
    detached: POSIX, // with a process group of its own
    cwd,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
    windowsHide: true,
  });
  const tail = createTail(KEPT_OUTPUT);
  for (const stream of ['stdout', 'stderr'] as const) {
    child[stream].on('data', (chunk: Buffer) => {
      tail.add(chunk);
      onOutput?.(chunk, stream);
    });
  }
  const drained = new Promise<unknown>((resolve) => child.on('close', resolve));
  const release = guard(child);
  let superseded = false;
  let ended: Promise<void> | undefined;
  const endTree = () => {
    ended ??= endProcesses(child);
    return ended;
  };

  async function toEnd(): Promise<Outcome | undefined> {
    const exit = await exitOf(child);
    const ms = performance.now() - begin;
    await endTree();
    // A daemon that left the group may hold the pipes for ever.
    const released = release();
    await settled(superseded ? released : Promise.all([drained, released]), DRAINING);
    child.stdout.destroy();
    child.stderr.destroy();
    if (superseded) return undefined;
    if (exit.code === 0) return { ok: true, ms };
    return { ok: false, ms, failure: failureOf(command, exit, { cwd, output: tail.text() }) };
  }

  return {
    outcome: toEnd(),
    end() {
      superseded = true;
      endTree();
    },
  };
}

interface Exit {
  readonly code?: number | null;
  readonly signal?: NodeJS.Signals | null;
  /** There was no process. */
  readonly error?: Error;
}

function exitOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.on('error', (error) => resolve({ error }));
    child.on('exit', (code, signal) => resolve({ code, signal }));
  });
}

function failureOf(command: string, exit: Exit, run: { cwd: string; output: string }): Failure {
  const output = withoutFolders(run.output, run.cwd).replace(/^\s*\n|\s+$/g, '');
  const message = withoutFolders(reason(command, exit, run), run.cwd);
  return output ? { message, command, output } : { message, command };
}

function reason(
  command: string,
  { code, signal, error }: Exit,
  { cwd, output }: { cwd: string; output: string },
): string {
  // For a folder that is missing, Node says that the shell is.
  if (error && !existsSync(cwd)) return `Cannot run "${command}": its folder does not exist`;
  if (error) return `Cannot run "${command}": ${error.message}`;
  if (signal) return `"${command}" was ended by ${signal}`;
  const missing = missingCommand(code, output);
  if (missing) return `Cannot run "${command}": "${missing}" was not found. Install it, or check its name`;
  return `"${command}" exited with code ${code}`;
}

/** The name that the shell did not find: dash, bash and busybox; zsh; cmd.exe. */
export function missingCommand(
  code: number | null | undefined,
  output: string,
  posix = POSIX,
): string | undefined {
  if (!posix) return /^'([^']+)' is not recognized as /m.exec(output)?.[1];
  if (code !== 127) return undefined;
  const found =
    /: ([^\s:]+): (?:(?:command )?not found|No such file or directory)$/m.exec(output) ??
    /: command not found: (\S+)$/m.exec(output);
  return found?.[1];
}

/** The last `limit` bytes of an output, from the beginning of a line. */
function createTail(limit: number): { add(chunk: Buffer): void; text(): string } {
  let chunks: Buffer[] = [];
  let size = 0;
  let cut = false;
  return {
    add(chunk) {
      chunks.push(chunk);
      size += chunk.length;
      // Not at each chunk: output often comes in thousands of small ones.
      if (size > 4 * limit) {
        chunks = [Buffer.concat(chunks).subarray(-limit)];
        size = limit;
        cut = true;
      }
    },
    text() {
      const all = Buffer.concat(chunks);
      const last = all.subarray(-limit);
      if (!cut && last.length === all.length) return last.toString();
      return last.subarray(last.indexOf('\n') + 1).toString();
    },
  };
}

/** Ends a run's processes: asked first, then made to. Resolves when none is left. */
async function endProcesses(child: ChildProcess): Promise<void> {
  const { pid } = child;
  if (pid === undefined) return;
  if (!POSIX) {
    // Only a process that still runs: Windows gives its number to the next one at once.
    if (child.exitCode === null)
      await exitOf(children().spawn('taskkill', taskkill(pid), { stdio: 'ignore' }));
    return;
  }
  if (!signalGroup(pid, 'SIGTERM') || (await isGone(pid, PATIENCE))) return;
  signalGroup(pid, 'SIGKILL');
  await isGone(pid, AFTERMATH);
}

function taskkill(pid: number): string[] {
  return ['/pid', String(pid), '/t', '/f'];
}

/** Whether there was a process in the group; signal 0 only looks. */
function signalGroup(pid: number, signal: NodeJS.Signals | 0): boolean {
  try {
    return process.kill(-pid, signal);
  } catch {
    return false; // ESRCH: the group is empty; EPERM on macOS: it has only zombies
  }
}

async function isGone(pid: number, ms: number): Promise<boolean> {
  for (const end = performance.now() + ms; performance.now() < end; await delay(10)) {
    if (!signalGroup(pid, 0) || hasOnlyZombies(pid)) return true;
  }
  return false;
}

/** In a container whose first process reaps nobody, the dead stay in their group for ever. Looks on Linux only. */
function hasOnlyZombies(group: number): boolean {
  if (process.platform !== 'linux') return false;
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    // proc_pid_stat(5): pid (comm) state ppid pgrp …; a comm may hold anything.
    const [, state, pgrp] = /.*\) (\w) \d+ (\d+) /s.exec(readStat(name)) ?? [];
    if (Number(pgrp) === group && state !== 'Z' && state !== 'X') return false;
  }
  return true;
}

function readStat(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return ''; // it ended while we looked
  }
}

// Waits for a line; if the server is gone, it reads the end of its input instead.
const GUARD = 'read -r line || { kill -s TERM -- "-$1"; sleep 1; kill -s KILL -- "-$1"; }';

/** Ends a run's processes when this process goes without `close()`: by its own will, or killed. Gives its undo. */
function guard({ pid }: ChildProcess): () => Promise<unknown> {
  if (pid === undefined) return () => Promise.resolve();
  if (!POSIX) return onExit(() => children().spawnSync('taskkill', taskkill(pid), { stdio: 'ignore' }));
  // A process that is killed can do nothing, so another one watches. In a session of its own: Ctrl-C isn't for it.
  const watchdog = children().spawn('/bin/sh', ['-c', GUARD, 'sh', String(pid)], {
    detached: true,
    cwd: '/',
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  watchdog.stdin.on('error', () => {}); // somebody ended it before
  const exit = exitOf(watchdog);
  return () => {
    watchdog.stdin.end('\n');
    return exit;
  };
}

function onExit(listener: () => void): () => Promise<unknown> {
  process.once('exit', listener);
  return async () => process.off('exit', listener);
}

/** Waits for a promise, but no longer than `ms`. */
async function settled(promise: Promise<unknown>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  await Promise.race([promise, late]);
  clearTimeout(timer);
}
