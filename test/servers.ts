// A process of its own with servers in it. Whoever saves and fetches elsewhere neither waits for their turns of the event
// loop nor makes them wait, as it is between an editor, a browser and a dev server.

import { fork } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { type LiveServer, type StartOptions, start } from '../src/index.ts';
import { within } from './harness.ts';

/** Options that survive the way to another process. */
type Options = Pick<StartOptions, 'root' | 'port' | 'poll'> & { readonly ignore?: readonly string[] };

export interface Served extends AsyncDisposable {
  readonly url: string;
  /** Lines for the terminal so far. */
  notices(): Promise<readonly string[]>;
}

export interface Resources {
  /** inotify watches, as the kernel counts them. */
  readonly watches: number;
  readonly descriptors: number;
  /** Bytes of the heap in use after a collection. */
  readonly heap: number;
  /** The longest the event loop was late since the last question (ms), and the most that the process worked in a turn. */
  readonly late: number;
  readonly worked: number;
}

export interface Servers extends AsyncDisposable {
  start(options: Options): Promise<Served>;
  resources(): Promise<Resources>;
  /** Ends the process as it stands (SIGKILL). */
  kill(): Promise<void>;
}

type Request =
  | { readonly type: 'start'; readonly options: Options }
  | { readonly type: 'notices' | 'close'; readonly url: string }
  | { readonly type: 'resources' };

/** `command`: what the process is run by, for limits of its own. */
export function servers(command: readonly string[] = []): Servers {
  const [execPath, ...execArgv] = [
    ...command,
    process.execPath,
    '--expose-gc',
    '--import',
    import.meta.resolve('tsx'),
  ];
  const child = fork(import.meta.filename, ['serve'], { execPath: execPath ?? process.execPath, execArgv });
  const waiting = new Map<number, (answer: { value?: unknown; error?: string }) => void>();
  let n = 0;
  let ended = false;
  child.on('message', ({ id, ...answer }: { id: number; value?: unknown; error?: string }) => {
    waiting.get(id)?.(answer);
    waiting.delete(id);
  });
  child.on('exit', (code, signal) => {
    ended = true;
    for (const done of waiting.values()) done({ error: `The servers ended: ${code ?? signal}` });
  });
  async function ask<T>(request: Request): Promise<T> {
    const id = n++;
    if (ended) throw new Error('The servers have ended');
    const answer = new Promise<{ value?: unknown; error?: string }>((resolve) => waiting.set(id, resolve));
    child.send({ id, ...request });
    const { value, error } = await within(`the answer to ${request.type}`, answer, 30_000);
    if (error !== undefined) throw new Error(error);
    return value as T;
  }
  return {
    async start(options) {
      const url = await ask<string>({ type: 'start', options });
      return {
        url,
        notices: () => ask({ type: 'notices', url }),
        [Symbol.asyncDispose]: async () => {
          await ask({ type: 'close', url });
        },
      };
    },
    resources: () => ask({ type: 'resources' }),
    kill: async () => {
      const end = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGKILL');
      await within('the end of the servers', end);
    },
    [Symbol.asyncDispose]: async () => {
      const end = new Promise((resolve) => child.once('exit', resolve));
      if (!ended) child.disconnect();
      if (!ended) await within('the end of the servers', end);
    },
  };
}

function serve(): void {
  const running = new Map<string, { readonly server: LiveServer; readonly notices: string[] }>();
  const load = watchLoad();

  async function answer(request: Request): Promise<unknown> {
    if (request.type === 'resources') return { ...inotify(), ...load() };
    if (request.type === 'start') {
      const server = await start({ port: 0, host: '127.0.0.1', ...request.options });
      const notices: string[] = [];
      server.on('notice', (line) => notices.push(line));
      running.set(server.url, { server, notices });
      return server.url;
    }
    const it = running.get(request.url);
    if (request.type === 'notices') return it?.notices;
    running.delete(request.url);
    await it?.server.close();
    return undefined;
  }

  process.on('message', ({ id, ...request }: { id: number } & Request) => {
    answer(request).then(
      (value) => process.send?.({ id, value }),
      (error) => process.send?.({ id, error: String(error) }),
    );
  });
  process.on('disconnect', () => process.exit());
}

function inotify(): Pick<Resources, 'watches' | 'descriptors' | 'heap'> {
  globalThis.gc?.();
  const names = process.platform === 'linux' ? readdirSync('/proc/self/fdinfo') : [];
  let watches = 0;
  for (const name of names) {
    try {
      watches += readFileSync(`/proc/self/fdinfo/${name}`, 'utf8').match(/^inotify /gm)?.length ?? 0;
    } catch {} // the descriptor of the listing itself
  }
  return { watches, descriptors: names.length, heap: process.memoryUsage().heapUsed };
}

/** Other programs make the loop late, too; work of its own does not lie. */
function watchLoad(): () => Pick<Resources, 'late' | 'worked'> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  let worked = 0;
  let before = process.cpuUsage();
  setInterval(() => {
    const { user, system } = process.cpuUsage(before);
    before = process.cpuUsage();
    worked = Math.max(worked, (user + system) / 1000);
  }, 1);
  return () => {
    const found = { late: delay.max / 1e6, worked };
    delay.reset();
    worked = 0;
    before = process.cpuUsage();
    return found;
  };
}

if (process.argv[1] === import.meta.filename && process.argv[2] === 'serve') serve();
