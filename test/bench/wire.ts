// From a save to the word that goes to the pages. The clock stops at the first word after which a page that asks gets
// the whole new file: a word that comes too early, and is followed by no other, leaves the page with the old one.

import { execFileSync } from 'node:child_process';
import { closeSync, openSync, renameSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { type Folder, folder, get, navigation } from '../harness.ts';
import { type Bench, pause, turns } from './bench.ts';
import { type Ear, listen } from './channel.ts';
import { type Running, startPeer } from './peers.ts';

/** Milliseconds in which the last word on a save has to come: esbuild looks at files every two seconds or so. */
const PATIENCE = 4000;
/** Milliseconds of silence after which no further word is waited for. */
const SILENCE = 350;

const lines = (version: number, count: number) =>
  Array.from({ length: count }, (_, n) => `<p>version ${version}, line ${n} of a page that is saved</p>\n`);

function document(version: number, count = 40): string {
  return `<!doctype html><html><head><title>v${version}</title></head><body>\n${lines(version, count).join('')}</body></html>\n`;
}

/** Saves version `n` of a page; gives the time of the last step. */
type Save = (file: string, version: number) => Promise<number>;

const now = () => performance.now();

const SAVES: Readonly<Record<string, Save>> = {
  plain: async (file, version) => {
    const text = document(version);
    const begin = now();
    writeFileSync(file, text);
    return begin;
  },
  atomic: async (file, version) => {
    writeFileSync(`${file}.tmp-1`, document(version));
    const begin = now();
    renameSync(`${file}.tmp-1`, file);
    return begin;
  },
  // As Vim does with `backupcopy=no`: the old one is moved away, the new one written, the old one removed.
  vim: async (file, version) => {
    const probe = file.replace(/[^/]+$/, '4913');
    writeFileSync(probe, '');
    rmSync(probe);
    const text = document(version);
    renameSync(file, `${file}~`);
    const begin = now();
    writeFileSync(file, text);
    rmSync(`${file}~`);
    return begin;
  },
  // A save, and what a formatter makes of it.
  twice: async (file, version) => {
    writeFileSync(file, document(version - 0.5));
    await pause(25);
    const text = document(version);
    const begin = now();
    writeFileSync(file, text);
    return begin;
  },
  // 200 KB in eight pieces, as a build or a network share writes them.
  slow: async (file, version) => {
    const text = document(version, 3800);
    const part = Math.ceil(text.length / 8);
    const fd = openSync(file, 'w');
    let begin = now();
    for (let at = 0; at < text.length; at += part) {
      if (at > 0) await pause(6);
      begin = now();
      writeSync(fd, text.slice(at, at + part));
    }
    closeSync(fd);
    return begin;
  },
};

interface Site extends AsyncDisposable {
  readonly server: Running;
  readonly folder: Folder;
  readonly words: number[];
  readonly ear: Ear;
}

async function open(bench: Bench, prepare: (site: Folder) => void): Promise<readonly Site[]> {
  const sites: Site[] = [];
  for (const peer of bench.peers.filter(({ channel }) => channel)) {
    const home = folder({ 'index.html': document(0) });
    prepare(home);
    try {
      const server = await startPeer(peer, home.path);
      const words: number[] = [];
      await get(server.url, '/', { headers: navigation });
      const ear = await listen(server, (at) => words.push(at));
      sites.push({
        server,
        folder: home,
        words,
        ear,
        [Symbol.asyncDispose]: async () => {
          ear[Symbol.dispose]();
          await server[Symbol.asyncDispose]();
          home[Symbol.dispose]();
        },
      });
    } catch (error) {
      bench.say(`${peer.name}: left out here: ${error instanceof Error ? error.message : error}`);
      home[Symbol.dispose]();
    }
  }
  await pause(1500); // watching has begun everywhere
  return sites;
}

/** What a page that asks now would show. */
async function look(site: Site, version: number): Promise<'whole' | 'older' | 'torn'> {
  const { body, headers } = await get(site.server.url, '/', { headers: navigation });
  const text = (headers['content-encoding'] === 'gzip' ? gunzipSync(body) : body).toString();
  const found = [...text.matchAll(/<p>version ([\d.]+), line/g)].map(([, n]) => Number(n));
  const [first] = found;
  // A file of one version from its first to its last line, with as many as it has.
  const counts = first === undefined ? [] : [40, 3800];
  const isWhole =
    counts.includes(found.length) && found.every((n) => n === first) && text.includes('</html>');
  if (!isWhole) return 'torn';
  return first === version ? 'whole' : 'older';
}

interface Outcome {
  readonly ms?: number;
  readonly torn: number;
  readonly words: number;
}

/** Saves, and looks after every word until the last of them. */
async function measure(site: Site, save: () => Promise<number>, version: number): Promise<Outcome> {
  site.words.length = 0;
  let seen = 0;
  let torn = 0;
  let shownAt: { readonly word: number; readonly answer: number } | undefined;
  let saved = false;
  const saving = save().then((begin) => {
    saved = true;
    return begin;
  });
  const end = now() + PATIENCE;
  for (;;) {
    const word = site.words[seen];
    if (word === undefined) {
      const quiet = saved && seen > 0 && now() - (site.words[seen - 1] ?? 0) > SILENCE;
      if (now() > end || (quiet && shownAt) || (quiet && now() - (await saving) > PATIENCE / 2)) break;
      await pause(1);
      continue;
    }
    // Words that came meanwhile are one to a page that loads.
    seen = site.words.length;
    const shown = await look(site, version);
    if (shown === 'torn') torn += 1;
    // A later word that shows something else takes it back.
    if (shown === 'whole') shownAt ??= { word, answer: now() };
    else shownAt = undefined;
  }
  const begin = await saving;
  if (!shownAt) return { torn, words: seen };
  // Some answer a request that comes in the midst of a save when the file is whole: the word came before its time.
  const at = shownAt.word < begin ? shownAt.answer : shownAt.word;
  return { torn, words: seen, ms: at - begin };
}

/** Every kind of save of one page. */
export async function wire(bench: Bench): Promise<void> {
  const sites = await open(bench, () => {});
  let version = 0;
  try {
    for (let round = 0; round < bench.rounds(8); round += 1) {
      for (const [kind, save] of Object.entries(SAVES)) {
        version += 1;
        for (const site of turns(sites, round)) {
          const { peer } = site.server;
          const file = site.folder.file('index.html');
          const outcome = await measure(site, () => save(file, version), version);
          if (outcome.ms !== undefined) bench.record(`save → wire, ${kind} (ms)`, peer, outcome.ms);
          bench.record(`stale pages, ${kind}`, peer, outcome.ms === undefined ? 1 : 0);
          bench.record(`torn pages, ${kind}`, peer, outcome.torn);
        }
      }
    }
  } finally {
    for (const site of sites) await site[Symbol.asyncDispose]();
  }
}

const FILES = 500;

/** A checkout that changes 500 files and the page among them. */
export async function checkout(bench: Bench): Promise<void> {
  const sites = await open(bench, prepareRepository);
  try {
    for (let round = 0; round < bench.rounds(2); round += 1) {
      for (const site of turns(sites, round)) {
        for (const [branch, version] of [
          ['other', 2],
          ['main', 1],
        ] as const) {
          const checkOut = async () => {
            git(site.folder, 'checkout', '-q', branch);
            return now();
          };
          const { ms, words, torn } = await measure(site, checkOut, version);
          const { peer } = site.server;
          if (ms !== undefined) bench.record('git checkout of 500 files → wire (ms)', peer, ms);
          bench.record('git checkout of 500 files, words', peer, words);
          bench.record(
            'git checkout of 500 files, stale or torn pages',
            peer,
            (ms === undefined ? 1 : 0) + torn,
          );
        }
      }
    }
  } finally {
    for (const site of sites) await site[Symbol.asyncDispose]();
  }
}

function git(site: Folder, ...words: string[]): void {
  const who = ['-c', 'user.name=bench', '-c', 'user.email=bench@localhost', '-c', 'gc.auto=0'];
  execFileSync('git', [...who, ...words], { cwd: site.path, stdio: 'ignore' });
}

function prepareRepository(site: Folder): void {
  const fill = (version: number) => {
    site.write('index.html', document(version));
    for (let n = 1; n < FILES; n += 1) site.write(`dir-${n % 20}/file-${n}.html`, document(version, 20));
    git(site, 'add', '-A');
    git(site, 'commit', '-qm', `version ${version}`);
  };
  git(site, 'init', '-q', '-b', 'main');
  fill(1);
  git(site, 'checkout', '-qb', 'other');
  fill(2);
  git(site, 'checkout', '-q', 'main');
}
