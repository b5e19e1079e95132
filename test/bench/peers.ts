// The servers that are measured: how each is installed and started, what its pages listen to, and what it costs.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { freePort, get } from '../harness.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const home = fileURLToPath(new URL('peers', import.meta.url));

/** What the pages of a server listen to. */
export interface Channel {
  readonly kind: 'sse' | 'ws';
  /** Where it is; some put a token there that only their own script knows. */
  path(port: number): string | Promise<string>;
  readonly protocol?: string;
  /** What the page says first. */
  readonly greeting?: string;
  /** Whether this text, as it came, tells the page that something has changed. */
  isChange(text: string): boolean;
  /** Each connection is told of one change only. */
  readonly once?: boolean;
}

export interface Peer {
  readonly name: string;
  /** Its package, if it is one of npm's. */
  readonly package?: string;
  readonly version: string;
  /** The words after `node` (or the program itself) that serve a folder as its documentation says. */
  command(folder: string, port: number): readonly string[];
  readonly program?: string;
  /** None: it does not tell of changes. */
  readonly channel?: Channel;
  /** Whether a plain page is alive with it, without a tag of one's own. */
  readonly injects?: boolean;
}

const bin = (path: string) => join(home, 'node_modules', path);

/** A server of a few lines, for comparison. */
const yardstick = (code: string) => (folder: string, port: number) =>
  ['-e', code, folder, String(port)] as const;

const BARE = `
const { createServer } = require('node:http');
const { readFile } = require('node:fs');
const [folder, port] = process.argv.slice(1);
createServer((req, res) => readFile(folder + (req.url === '/' ? '/index.html' : req.url), (error, data) => {
  res.writeHead(error ? 404 : 200, { 'Content-Length': error ? 0 : data.length });
  res.end(data);
})).listen(port, '127.0.0.1');`;

const SIRV = `
const [folder, port] = process.argv.slice(1);
const files = require(${JSON.stringify(bin('sirv'))})(folder, { dev: true });
require('node:http').createServer(files).listen(port, '127.0.0.1');`;

const viteToken = async (port: number) => {
  const client = await get(`http://127.0.0.1:${port}/`, '/@vite/client');
  return `/?token=${/wsToken = "([^"]+)"/.exec(client.text)?.[1] ?? ''}`;
};

/** Yardsticks without a channel come last. The first is the one all others are compared to. */
export const PEERS: readonly Peer[] = [
  {
    name: 'live-sse',
    version: JSON.parse(readFileSync(join(repository, 'package.json'), 'utf8')).version,
    command: (folder, port) => [join(repository, 'dist/cli.js'), folder, '--port', String(port)],
    channel: {
      kind: 'sse',
      path: () => '/__events',
      isChange: (text) => /^event: (css|reload)$/m.test(text),
    },
    injects: true,
  },
  {
    name: 'live-server',
    package: 'live-server',
    version: '1.2.2',
    command: (folder, port) => [
      bin('live-server/live-server.js'),
      folder,
      `--port=${port}`,
      '--host=127.0.0.1',
      '--no-browser',
    ],
    channel: { kind: 'ws', path: () => '/index.html/ws', isChange: (text) => /reload|refreshcss/.test(text) },
    injects: true,
  },
  {
    name: 'browser-sync',
    package: 'browser-sync',
    version: '3.0.4',
    command: (folder, port) =>
      [bin('browser-sync/dist/bin.js'), 'start', '--server', folder, '--watch'].concat([
        '--port',
        String(port),
        '--listen',
        '127.0.0.1',
        '--no-open',
        '--no-ui',
        '--no-notify',
      ]),
    channel: {
      kind: 'ws',
      path: () => '/browser-sync/socket.io/?EIO=4&transport=websocket',
      greeting: '40/browser-sync,',
      isChange: (text) => /^42\/browser-sync,\["(file|browser):reload"/.test(text),
    },
    injects: true,
  },
  {
    name: 'five-server',
    package: 'five-server',
    version: '0.4.5',
    // The working folder: it answers 403 when another one is named by its whole path.
    command: (_folder, port) => [
      bin('five-server/lib/bin.js'),
      '.',
      `--port=${port}`,
      '--host=127.0.0.1',
      '--open=false',
    ],
    channel: { kind: 'ws', path: () => '/', isChange: (text) => /^(reload|refreshcss)/.test(text) },
    injects: true,
  },
  {
    name: 'vite',
    package: 'vite',
    version: '8.3.8',
    command: (folder, port) => [
      bin('vite/bin/vite.js'),
      folder,
      '--port',
      String(port),
      '--strictPort',
      '--host',
      '127.0.0.1',
    ],
    channel: {
      kind: 'ws',
      path: viteToken,
      protocol: 'vite-hmr',
      isChange: (text) => /^\{"type":"(full-reload|update)"/.test(text),
    },
    injects: true,
  },
  {
    name: 'servor',
    package: 'servor',
    version: '4.0.2',
    command: (folder, port) => [bin('servor/cli.js'), folder, 'index.html', String(port), '--reload'],
    channel: {
      kind: 'sse',
      path: () => '/livereload',
      isChange: (text) => /^event: message$/m.test(text),
      once: true,
    },
    injects: true,
  },
  {
    name: 'eleventy-dev-server',
    package: '@11ty/eleventy-dev-server',
    version: '2.1.2',
    command: (folder, port) => [bin('@11ty/eleventy-dev-server/cmd.js'), `--dir=${folder}`, `--port=${port}`],
    channel: { kind: 'ws', path: () => '/', isChange: (text) => text.includes('"eleventy.reload"') },
    injects: true,
  },
  {
    name: 'esbuild',
    package: 'esbuild',
    version: '0.28.2',
    program: bin('esbuild/bin/esbuild'),
    // It tells of what it builds: a copy of the page.
    command: (folder, port) =>
      [join(folder, 'index.html'), '--loader:.html=copy', '--entry-names=[name]', '--watch=forever'].concat([
        `--servedir=${folder}`,
        `--outdir=${folder}`,
        `--serve=127.0.0.1:${port}`,
        '--allow-overwrite',
      ]),
    channel: { kind: 'sse', path: () => '/esbuild', isChange: (text) => /^event: change$/m.test(text) },
  },
  { name: 'sirv', package: 'sirv', version: '3.0.2', command: yardstick(SIRV) },
  { name: 'node:http', version: process.versions.node, command: yardstick(BARE) },
];

/** Installs the peers where they are missing. */
export function installPeers(): void {
  const dependencies = Object.fromEntries(
    PEERS.flatMap(({ package: name, version }) => (name ? [[name, version]] : [])),
  );
  const manifest = `${JSON.stringify({ private: true, dependencies }, null, 2)}\n`;
  const file = join(home, 'package.json');
  const isThere = PEERS.every((peer) => isInstalled(peer));
  if (isThere && existsSync(file) && readFileSync(file, 'utf8') === manifest) return;
  mkdirSync(home, { recursive: true });
  writeFileSync(file, manifest);
  console.log('Installing the other servers …');
  try {
    npmInstall([], home);
  } catch {
    // One that cannot be had must not keep the others out.
    writeFileSync(file, '{ "private": true }\n');
    for (const [name, version] of Object.entries(dependencies)) {
      try {
        npmInstall([`${name}@${version}`, '--save-exact'], home);
      } catch {} // it is missing afterwards, and said to be
    }
  }
}

export function npmInstall(words: readonly string[], cwd: string): void {
  const quiet = ['--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error'];
  execFileSync('npm', ['install', '--omit=dev', ...quiet, ...words], {
    cwd,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
}

export function isInstalled({ package: name, version }: Peer): boolean {
  if (!name) return true;
  try {
    return (
      JSON.parse(readFileSync(join(home, 'node_modules', name, 'package.json'), 'utf8')).version === version
    );
  } catch {
    return false;
  }
}

/** What a process and all that it has started use. */
export interface Usage {
  readonly memoryMB: number;
  readonly cpuSeconds: number;
  readonly watches: number;
}

export interface Running extends AsyncDisposable {
  readonly peer: Peer;
  readonly port: number;
  readonly url: string;
  /** When it was spawned, in ms of `performance.now()`. */
  readonly spawned: number;
  /** Milliseconds from the spawn to the first 200. */
  readonly first: number;
  usage(): Usage;
}

/** Starts a server and waits for its first 200. */
export async function startPeer(peer: Peer, folder: string, more: readonly string[] = []): Promise<Running> {
  const port = await freePort();
  const words = [...peer.command(folder, port), ...more];
  const spawned = performance.now();
  const child = spawn(peer.program ?? process.execPath, words, {
    cwd: folder,
    detached: true,
    stdio: ['ignore', 'ignore', 'ignore'],
    env: { ...process.env, NO_UPDATE_NOTIFIER: '1' },
  });
  const kill = () => killGroup(child);
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
  try {
    await answered(child, port);
  } catch (error) {
    await end(child);
    throw new Error(`${peer.name} does not start: ${error instanceof Error ? error.message : error}`);
  }
  const first = performance.now() - spawned;
  return {
    peer,
    port,
    url: `http://127.0.0.1:${port}/`,
    spawned,
    first,
    usage: () => usage(child.pid ?? 0),
    [Symbol.asyncDispose]: () => end(child),
  };
}

async function answered(child: ChildProcess, port: number): Promise<void> {
  const late = performance.now() + 60_000;
  let failure: string | undefined;
  child.on('error', (error) => {
    failure = error.message;
  });
  child.on('exit', (code) => {
    failure = `it ended with code ${code}`;
  });
  while (!failure && performance.now() < late) {
    const answer = await get(`http://127.0.0.1:${port}/`, '/').catch(() => undefined);
    if (answer?.status === 200) return;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(failure ?? 'no answer in 60 s');
}

async function end(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const closed = new Promise((resolve) => child.once('exit', resolve));
  killGroup(child);
  await closed;
}

function killGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, 'SIGKILL');
  } catch {} // it has ended by itself
}

/** `stat` of a process from its state on: proc(5). */
function stat(pid: number): readonly string[] {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
  } catch {
    return []; // it has ended
  }
}

function tree(root: number): readonly number[] {
  const parents = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map((name) => [Number(name), Number(stat(Number(name))[1])] as const);
  const below = (pid: number): number[] => [
    pid,
    ...parents.filter(([, parent]) => parent === pid).flatMap(([child]) => below(child)),
  ];
  return below(root);
}

function usage(root: number): Usage {
  const all = tree(root).map((pid) => {
    const fields = stat(pid);
    const ticks = [11, 12, 13, 14].reduce((sum, i) => sum + Number(fields[i] ?? 0), 0);
    return { bytes: Number(fields[21] ?? 0) * 4096, ticks, watches: watches(pid) };
  });
  const sum = (value: (one: (typeof all)[number]) => number) => all.reduce((n, one) => n + value(one), 0);
  return {
    memoryMB: sum(({ bytes }) => bytes) / 2 ** 20,
    cpuSeconds: sum(({ ticks }) => ticks) / 100,
    watches: sum((one) => one.watches),
  };
}

function watches(pid: number): number {
  let count = 0;
  try {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      if (readlinkSync(`/proc/${pid}/fd/${fd}`) !== 'anon_inode:inotify') continue;
      count += readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8').match(/^inotify /gm)?.length ?? 0;
    }
  } catch {} // a file it has closed while we looked, or it has ended
  return count;
}
