// Cold start: the first answer, the first change that is noticed, and what a large folder costs.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { get, navigation } from '../harness.ts';
import { type Bench, pause, turns, withServer } from './bench.ts';
import { listen } from './channel.ts';
import type { Peer, Running } from './peers.ts';

/** So many files lie in one folder. */
const PER_FOLDER = 50;
/** Milliseconds after which a change counts as not noticed. */
const PATIENCE = 40_000;

const page = (text: string) =>
  `<!doctype html><html><head><title>${text}</title></head><body><p>${text}</p></body></html>\n`;

interface Large extends Disposable {
  readonly path: string;
  readonly opened: string;
  readonly deep: string;
}

function largeSite(files: number): Large {
  const path = mkdtempSync(join(tmpdir(), 'live-sse-bench-'));
  writeFileSync(join(path, 'index.html'), page('start'));
  let last = join(path, 'index.html');
  for (let n = 1; n < files; n += 1) {
    const dir = join(path, `part-${Math.floor(n / PER_FOLDER / 40)}`, `dir-${Math.floor(n / PER_FOLDER)}`);
    if (n === 1 || n % PER_FOLDER === 0) mkdirSync(dir, { recursive: true });
    last = join(dir, `file-${n}.html`);
    writeFileSync(last, page(`file ${n}`));
  }
  return {
    path,
    opened: join(path, 'index.html'),
    deep: last,
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** An empty site: who answers first? */
export async function start(bench: Bench): Promise<void> {
  using site = largeSite(1);
  for (let round = 0; round < bench.rounds(5); round += 1) {
    for (const peer of turns(bench.peers, round)) {
      await withServer(bench, [peer, site.path], async (server) => {
        bench.record('first 200, empty (ms)', peer, server.first);
        if (!peer.channel) return;
        await noticed(bench, server, { file: site.opened, measure: 'first change, empty (ms)' });
      });
    }
  }
}

/** 10,000 files: everybody. */
export function tenThousand(bench: Bench): Promise<void> {
  return large(bench, bench.peers, { files: 10_000, rounds: 1 });
}

/** 50,000 files: those that the targets name. */
export function fiftyThousand(bench: Bench): Promise<void> {
  const named = bench.peers.filter(({ name }) => /^(live-sse|live-server|node:http)$/.test(name));
  return large(bench, named, { files: 50_000, rounds: 3 });
}

async function large(
  bench: Bench,
  peers: readonly Peer[],
  { files, rounds }: { readonly files: number; readonly rounds: number },
): Promise<void> {
  using site = largeSite(files);
  const size = `${files.toLocaleString('en')} files`;
  for (let round = 0; round < bench.rounds(rounds); round += 1) {
    for (const peer of turns(peers, round)) {
      await withServer(bench, [peer, site.path], async (server) => {
        bench.record(`first 200, ${size} (ms)`, peer, server.first);
        const asked = watchAnswers(server);
        if (peer.channel) {
          await noticed(bench, server, { file: site.deep, measure: `first change, ${size} (ms)` });
        }
        await pause(1000); // what is still to be walked is walked
        bench.record(`longest answer, ${size} (ms)`, peer, await asked());
        const { memoryMB, cpuSeconds, watches } = server.usage();
        bench.record(`memory, ${size} (MB)`, peer, memoryMB);
        bench.record(`CPU, ${size} (s)`, peer, cpuSeconds);
        bench.record(`watches, ${size}`, peer, watches);
      });
      if (!peer.channel) continue;
      await withServer(bench, [peer, site.path], (server) => openPage(bench, server, site, size));
    }
  }
}

/** Saves a file again and again, as it may not be watched yet, until its page would hear of it. */
async function noticed(
  bench: Bench,
  server: Running,
  { file, measure }: { readonly file: string; readonly measure: string },
): Promise<void> {
  let heard: number | undefined;
  using _ear = await listen(server, (at) => {
    heard ??= at;
  });
  const end = performance.now() + PATIENCE;
  for (let n = 0; heard === undefined && performance.now() < end; n += 1) {
    writeFileSync(file, page(`first ${n}`));
    // Some servers wait for as long as saves go on: most notice one of the first, the others get time.
    const until = performance.now() + (n < 4 ? 150 : 700);
    while (heard === undefined && performance.now() < until) await pause(5);
  }
  if (heard === undefined) bench.say(`${server.peer.name}: ${measure}: not noticed in ${PATIENCE / 1000} s`);
  else bench.record(measure, server.peer, heard - server.spawned);
}

/** The file of a page that was asked for is saved at once, while the rest may be walked yet. */
async function openPage(bench: Bench, server: Running, site: Large, size: string): Promise<void> {
  let heard: number | undefined;
  await get(server.url, '/', { headers: navigation });
  using _ear = await listen(server, (at) => {
    heard ??= at;
  });
  const begin = performance.now();
  writeFileSync(site.opened, page(`opened ${begin}`));
  const end = begin + PATIENCE;
  while (heard === undefined && performance.now() < end) {
    await pause(5);
    // Who has missed the first save may see a later one: its user would save again, too.
    if (performance.now() - begin > 1000) writeFileSync(site.opened, page(`opened ${performance.now()}`));
  }
  if (heard !== undefined) bench.record(`change of an open page, ${size} (ms)`, server.peer, heard - begin);
}

/** Asks for a page all the time; what it gives stops that, and gives the longest time an answer took. */
function watchAnswers(server: Running): () => Promise<number> {
  let longest = 0;
  let ended = false;
  const asking = (async () => {
    while (!ended) {
      const begin = performance.now();
      await get(server.url, '/', { headers: navigation }).catch(() => {});
      longest = Math.max(longest, performance.now() - begin);
      await pause(5);
    }
  })();
  return async () => {
    ended = true;
    await asking;
    return longest;
  };
}
