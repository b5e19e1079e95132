// Many requests, and many listeners.

import { writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { folder, get, navigation } from '../harness.ts';
import { type Bench, pause, turns, withServer } from './bench.ts';
import { type Ear, listen } from './channel.ts';
import type { Running } from './peers.ts';

/** Connections at once, and milliseconds of asking. */
const CONNECTIONS = 16;
const PERIOD = 800;
const WARM_UP = 300;

const CLIENTS = 5000;
const SAVES = 3;
/** So many of them come at once. */
const TOGETHER = 50;

const FILES = { html: '/', css: '/site.css', js: '/app.js', image: '/photo.png' };

const page = (text: string) =>
  `<!doctype html><html><head><title>Page</title></head><body>${`<p>${text}</p>\n`.repeat(60)}</body></html>\n`;

function site() {
  return folder({
    'index.html': page('Some words of a page'),
    'site.css': `${'.name { color: rebeccapurple; margin: 0 }\n'.repeat(50)}`,
    'app.js': `console.log('A line of a script that does little');\n`.repeat(3800),
    'photo.png': Buffer.alloc(2 ** 20, 'pixels'),
  });
}

/** Answers per second, by kind of file. */
export async function load(bench: Bench): Promise<void> {
  using home = site();
  for (let round = 0; round < bench.rounds(2); round += 1) {
    for (const peer of turns(bench.peers, round)) {
      await withServer(bench, [peer, home.path], async (server) => {
        await pause(500);
        for (const [kind, path] of Object.entries(FILES)) {
          await get(server.url, path, { headers: path === FILES.html ? navigation : {} }); // it may be made at first
          await ask(server, path, WARM_UP);
          bench.record(`${kind} per second`, peer, await ask(server, path, PERIOD));
        }
      });
    }
  }
}

/** Asks for a path on several connections for some time; gives the answers per second. */
async function ask({ port }: Running, path: string, ms: number): Promise<number> {
  let answers = 0;
  let ended = false;
  const words = Object.entries(navigation).map(([name, value]) => `${name}: ${value}\r\n`);
  const request = `GET ${path} HTTP/1.1\r\nHost: localhost:${port}\r\n${path === FILES.html ? words.join('') : ''}\r\n`;
  const sockets = new Set<Socket>();
  const join = () => {
    const socket = connect(port, '127.0.0.1', () => socket.write(request));
    sockets.add(socket);
    const isDone = answerReader();
    socket.on('data', (chunk: Buffer) => {
      if (!isDone(chunk)) return;
      answers += 1;
      if (!ended) socket.write(request);
    });
    socket.on('error', () => {}); // shows as a close
    socket.on('close', () => {
      sockets.delete(socket);
      if (!ended) join();
    });
  };
  const begin = performance.now();
  for (let i = 0; i < CONNECTIONS; i += 1) join();
  await pause(ms);
  const rate = answers / ((performance.now() - begin) / 1000);
  ended = true;
  for (const socket of sockets) socket.destroy();
  return rate;
}

/** Says of each chunk whether an answer ends with it; reads no more of it than it has to. */
function answerReader(): (chunk: Buffer) => boolean {
  let head = '';
  let left: number | 'chunked' | undefined;
  let end = '';
  return (chunk) => {
    let body = chunk;
    if (left === undefined) {
      head += chunk.toString('latin1');
      const length = head.indexOf('\r\n\r\n') + 4;
      if (length < 4) return false;
      left = bodySize(head.slice(0, length));
      body = chunk.subarray(chunk.length - (head.length - length));
      head = '';
      end = '';
    }
    if (left === 'chunked') end = (end + body.subarray(-5).toString('latin1')).slice(-5);
    else left -= body.length;
    const isDone = left === 'chunked' ? end === '0\r\n\r\n' : left <= 0;
    if (isDone) left = undefined;
    return isDone;
  };
}

function bodySize(head: string): number | 'chunked' {
  // Another answer is no answer: the rest of it never comes, and the rate is 0.
  if (!head.startsWith('HTTP/1.1 200')) return Number.POSITIVE_INFINITY;
  if (/^transfer-encoding: chunked/im.test(head)) return 'chunked';
  return Number(/^content-length: (\d+)/im.exec(head)?.[1] ?? 0);
}

/** 5,000 pages that listen, and a save. Node.js raises its limit of open files by itself as far as it may. */
export async function clients(bench: Bench): Promise<void> {
  using home = site();
  for (let round = 0; round < bench.rounds(2); round += 1) {
    for (const peer of turns(bench.peers, round)) {
      if (!peer.channel || !peer.injects) continue;
      await withServer(bench, [peer, home.path], (server) =>
        crowd(bench, server, (text) => writeFileSync(home.file('index.html'), page(text))),
      );
    }
  }
}

async function crowd(bench: Bench, server: Running, save: (text: string) => void): Promise<void> {
  const { peer } = server;
  await get(server.url, '/', { headers: navigation });
  await pause(1500);
  const before = server.usage().memoryMB;
  const heard = new Map<number, number>();
  const path = await peer.channel?.path(server.port);
  const ears: Ear[] = [];
  try {
    while (ears.length < CLIENTS) {
      const first = ears.length;
      const more = Array.from({ length: TOGETHER }, (_, i) => {
        const hear = (at: number) => {
          if (!heard.has(first + i)) heard.set(first + i, at);
        };
        return listen(server, hear, path);
      });
      ears.push(...(await Promise.all(more)));
    }
    await pause(1000);
    bench.record(
      '5,000 clients, memory each (KB)',
      peer,
      ((server.usage().memoryMB - before) * 1024) / CLIENTS,
    );
    const rested = server.usage().cpuSeconds;
    for (let n = 0; n < SAVES; n += 1) {
      heard.clear();
      const begin = performance.now();
      save(`saved ${begin}`);
      while (heard.size < CLIENTS && performance.now() - begin < 8000) await pause(10);
      const times = [...heard.values()];
      bench.record('5,000 clients, told', peer, times.length);
      if (times.length < CLIENTS) continue;
      const last = times.reduce((a, b) => Math.max(a, b));
      bench.record('5,000 clients, first to last (ms)', peer, last - times.reduce((a, b) => Math.min(a, b)));
      bench.record('5,000 clients, save to last (ms)', peer, last - begin);
      await pause(1000);
    }
    const used = (server.usage().cpuSeconds - rested) * 1000;
    bench.record('5,000 clients, CPU of a save (ms)', peer, used / SAVES);
  } finally {
    for (const ear of ears) ear[Symbol.dispose]();
  }
}
