// Every way to save a file, hundreds of times, as a page sees it: the event stream says what to fetch, the server gives it,
// and every body is one complete version, the last one the last.

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { PageEvent } from '../src/events.ts';
import { type EventStream, type Folder, folder, get, openStream, until } from './harness.ts';
import { servers } from './servers.ts';

const LANES = 8;
/** Of each lane; fewer where the same is run with one more Node. */
const ROUNDS = Number(process.env.ROUNDS ?? 25);

/** What a file holds; `null`: there is none. */
type Content = string | null;
type Contents = Readonly<Record<string, Content>>;

/** A folder that knows which contents of its files are complete. */
interface Disk extends Folder {
  readonly complete: ReadonlyMap<string, ReadonlySet<Content>>;
  /** From now on a page may see this. */
  allow(contents: Contents): void;
}

interface Kind {
  readonly name: string;
  readonly files: Contents;
  readonly lanes?: number;
  readonly rounds?: number;
  /** At most so many events a save. @default any number */
  readonly events?: number;
  /** The folder that is served, in the one that is made. @default itself */
  readonly root?: string;
  prepare?(disk: Disk): void;
  /** Does it once more; gives what is there at its end. */
  save(disk: Disk, round: number): Promise<Contents>;
}

/** Folders' names are those of URLs: nothing in them is escaped. */
function disk(files: Contents): Disk {
  const texts = Object.entries(files).filter((entry): entry is [string, string] => entry[1] !== null);
  const site = folder(Object.fromEntries(texts));
  const complete = new Map<string, Set<Content>>();
  const allow = (contents: Contents) => {
    for (const [name, content] of Object.entries(contents)) {
      complete.set(name, (complete.get(name) ?? new Set()).add(content));
    }
  };
  const write = (name: string, content: string) => {
    allow({ [name]: content });
    const begun = performance.now();
    const path = site.write(name, content);
    // The disk held it up while it was empty, for as long as that is waited for.
    if (performance.now() - begun > 500) allow({ [name]: '' });
    return path;
  };
  allow(files);
  return { ...site, complete, allow, write };
}

/** What an open page does: it fetches what an event names, at once, and shows what it got. */
interface Page extends Disposable {
  /** What it shows now. */
  readonly shown: ReadonlyMap<string, Content>;
  /** Bodies so far that are no complete version, and fetches that failed. */
  torn(): readonly string[];
  /** Names in events so far. */
  readonly announced: Set<string>;
  /** Events so far. */
  events(): number;
  fetch(name: string): Promise<Content>;
  /** Hears no more events, waits for what is on its way, and gives what `torn()` gives. */
  end(): Promise<readonly string[]>;
}

/** `uses`: the files that it fetches when they are told; by default all. */
async function openPage(
  url: string,
  site: Disk,
  uses: (name: string) => boolean = () => true,
): Promise<Page> {
  const shown = new Map<string, Content>();
  const bodies: { name: string; why: string; content: Content }[] = [];
  const failures: string[] = [];
  const underway = new Set<Promise<void>>();
  const latest = new Map<string, number>();
  const announced = new Set<string>();
  let events = 0;
  let fetches = 0;

  async function load(name: string, why: string): Promise<Content> {
    const { status, text } = await get(url, `/${name}`);
    const content = status === 200 ? text : null;
    // A moment later it may be known that it was one.
    if (!site.complete.get(name)?.has(content)) bodies.push({ name, why, content });
    return content;
  }

  async function show(name: string, why: string): Promise<void> {
    const n = fetches++;
    latest.set(name, n);
    const content = await load(name, why);
    // The last one that was asked for is the one that stays.
    if (latest.get(name) === n) shown.set(name, content);
  }

  const stream: EventStream = await openStream(`${url}__events`, {}, ({ type, data }) => {
    if (type !== 'css' && type !== 'reload') return;
    events++;
    const { paths }: PageEvent = JSON.parse(data);
    for (const name of paths.map((path) => path.slice(1))) {
      announced.add(name);
      if (!site.complete.has(name) || !uses(name)) continue;
      const showing = show(name, `event ${events}`)
        .catch((error) => void failures.push(`${name}, event ${events}: ${error}`))
        .finally(() => underway.delete(showing));
      underway.add(showing);
    }
  });
  await Promise.all([...site.complete.keys()].filter(uses).map((name) => show(name, 'at first')));
  const torn = () => {
    const wrong = bodies.filter(({ name, content }) => !site.complete.get(name)?.has(content));
    return [...failures, ...wrong.map(({ name, why, content }) => `${name}, ${why}: ${digest(content)}`)];
  };
  const close = () => stream[Symbol.dispose]();
  return {
    shown,
    torn,
    announced,
    events: () => events,
    fetch: (name) => load(name, 'in between'),
    async end() {
      close();
      await Promise.all(underway);
      return torn();
    },
    [Symbol.dispose]: close,
  };
}

const digest = (content: Content) =>
  content === null ? 'nothing' : `${content.length} "${content.slice(0, 20)}"`;

// --- The kinds ---

/** A stylesheet of 200 KB, as people write them: it ends with a line. */
function large(round: number): string {
  const rule = `.rule-${round} { color: rgb(${round} 0 0); background: url(image-${round}.png) }\n`;
  return `${rule.repeat(Math.ceil(200_000 / rule.length))}/* end of ${round} */\n`;
}

/** After such a pause (ms) in the writing what is there counts as complete; and nobody waits for longer than this in all. */
const PAUSE = 190;
const PATIENCE = 4500;

/** Writes it piece by piece. If the machine is so busy that it takes far longer than asked for, its pieces are complete. */
async function inChunks(
  site: Disk,
  content: string,
  { ms, name = 'a.css', size = Math.ceil(content.length / 20) }: { ms: number; name?: string; size?: number },
): Promise<void> {
  const chunks = Math.ceil(content.length / size);
  const handle = await open(site.file(name), 'w');
  const pieces: string[] = [];
  let isLate = false;
  const begun = performance.now();
  for (let at = 0, writing = begun; at < content.length; at += size) {
    if (at > 0) await pause(ms / chunks);
    const before = writing;
    writing = performance.now();
    await handle.write(content.slice(at, at + size));
    const now = performance.now();
    isLate ||= (at > 0 && now - before > PAUSE) || now - begun > PATIENCE;
    pieces.push(content.slice(0, at + size));
    if (isLate) for (const piece of pieces.splice(0)) site.allow({ [name]: piece });
  }
  await handle.close();
}

const twice = (ms: number): Kind => ({
  name: `two saves ${ms} ms apart`,
  files: { 'a.css': 'old' },
  events: 2,
  async save(site, round) {
    site.write('a.css', `first ${round}`);
    await pause(ms);
    site.write('a.css', `second ${round}`);
    return { 'a.css': `second ${round}` };
  },
});

const slow = (ms: number): Kind => ({
  name: `200 KB in chunks over ${ms} ms`,
  files: { 'a.css': large(0) },
  async save(site, round) {
    site.allow({ 'a.css': large(round + 1) });
    await inChunks(site, large(round + 1), { ms });
    return { 'a.css': large(round + 1) };
  },
});

const plain = (file: string): Kind => ({
  name: `a plain write of ${file}`,
  files: { [file]: 'old' },
  events: 1,
  async save(site, round) {
    site.write(file, `${round}`);
    return { [file]: `${round}` };
  },
});

const kinds: Kind[] = [
  plain('a.css'),
  plain('a.html'),
  plain('a.js'),
  {
    name: 'truncate, then write',
    files: { 'a.css': 'old' },
    events: 1,
    async save(site, round) {
      writeFileSync(site.file('a.css'), '');
      await pause(round % 20);
      site.write('a.css', `${round}`);
      return { 'a.css': `${round}` };
    },
  },
  twice(5),
  twice(25),
  twice(60),
  slow(30),
  { ...slow(2000), lanes: 40, rounds: 5 },
  {
    name: 'a new file of 200 KB, buffer by buffer',
    files: {},
    lanes: 40,
    rounds: 5,
    async save(site, round) {
      const content = { [`new-${round}.css`]: large(round) };
      site.allow(content);
      await inChunks(site, large(round), { ms: 300, name: `new-${round}.css`, size: 8192 });
      return content;
    },
  },
  {
    name: 'temporary file and rename',
    files: { 'a.css': 'old' },
    events: 1,
    async save(site, round) {
      site.allow({ 'a.css': `${round}` });
      renameSync(site.write(`a.css.tmp-${round}`, `${round}`), site.file('a.css'));
      return { 'a.css': `${round}` };
    },
  },
  {
    name: 'rename away and create anew',
    files: { 'a.css': 'old' },
    events: 1,
    async save(site, round) {
      renameSync(site.file('a.css'), site.file('a.css~'));
      if (round % 2) await pause(round % 10);
      site.write('a.css', `${round}`);
      rmSync(site.file('a.css~'));
      return { 'a.css': `${round}` };
    },
  },
  {
    name: 'a write through a symlink',
    files: { 'real/a.css': 'old', 'b.css': 'old', 'folder/a.css': 'old' },
    prepare(site) {
      rmSync(site.file('b.css'));
      rmSync(site.file('folder'), { recursive: true });
      symlinkSync('real/a.css', site.file('b.css'));
      symlinkSync('real', site.file('folder'));
    },
    events: 1,
    async save(site, round) {
      const contents = { 'b.css': `${round}`, 'real/a.css': `${round}`, 'folder/a.css': `${round}` };
      site.allow(contents);
      writeFileSync(site.file('b.css'), `${round}`);
      return contents;
    },
  },
  {
    name: 'a rename of the case only',
    files: { 'a.css': 'old', 'A.css': null },
    async save(site, round) {
      const [from, to] = round % 2 ? ['A.css', 'a.css'] : ['a.css', 'A.css'];
      site.allow({ [from]: null, [to]: 'old' });
      renameSync(site.file(from), site.file(to));
      return { [from]: null, [to]: 'old' };
    },
  },
  {
    name: 'a file that becomes a folder, and back',
    files: { a: 'old', 'a/b.css': null },
    async save(site, round) {
      const [from, to] = round % 2 ? ['a/b.css', 'a'] : ['a', 'a/b.css'];
      site.allow({ [from]: null, [to]: null });
      rmSync(site.file('a'), { recursive: true });
      site.write(to, `${round}`);
      return { [from]: null, [to]: `${round}` };
    },
  },
  {
    name: 'a folder with a file that is written again at once',
    files: {},
    async save(site, round) {
      const name = `${round}/deep/er/a.css`;
      site.allow({ [name]: null });
      site.write(name, 'first');
      await pause(round % 8);
      site.write(name, `second ${round}`);
      return { [name]: `second ${round}` };
    },
  },
  {
    name: 'a folder that is renamed, and a file of it saved at once',
    files: { '0/deep/a.css': 'old' },
    async save(site, round) {
      const [from, to] = [`${round}/deep/a.css`, `${round + 1}/deep/a.css`];
      const before = round === 0 ? 'old' : `${round - 1}`;
      site.allow({ [from]: null, [to]: null });
      site.allow({ [to]: before });
      renameSync(site.file(`${round}`), site.file(`${round + 1}`));
      await pause(round % 8);
      site.write(to, `${round}`);
      return { [from]: null, [to]: `${round}` };
    },
  },
  {
    name: 'a folder that is deleted and made again',
    files: { 'x/y/a.css': 'old' },
    async save(site, round) {
      site.allow({ 'x/y/a.css': null });
      if (round % 2 === 0) rmSync(site.file('x'), { recursive: true });
      else site.write('x/y/a.css', `${round}`);
      return { 'x/y/a.css': round % 2 ? `${round}` : null };
    },
  },
  {
    name: 'the whole root deleted and restored',
    files: { 'a.css': 'old', 'x/b.css': 'old' },
    async save(site, round) {
      site.allow({ 'a.css': null, 'x/b.css': null });
      rmSync(site.path, { recursive: true });
      await pause((round % 5) * 30);
      site.write('a.css', `${round}`);
      await pause(round % 7);
      site.write('x/b.css', `${round}`);
      return { 'a.css': `${round}`, 'x/b.css': `${round}` };
    },
  },
  {
    name: 'a root that is a symlink and is led elsewhere',
    files: { 'a.css': 'old' },
    root: 'current',
    prepare(site) {
      site.allow({ 'a.css': 'old' });
      for (const to of ['0', '1']) mkdirSync(site.file(to));
      renameSync(site.file('a.css'), site.file('0/a.css'));
      symlinkSync('0', site.file('current'));
    },
    async save(site, round) {
      const to = `${(round + 1) % 2}`;
      site.allow({ 'a.css': `${round}` });
      writeFileSync(site.file(`${to}/a.css`), `${round}`);
      symlinkSync(to, site.file('next'));
      renameSync(site.file('next'), site.file('current'));
      if (round % 2) await pause(round % 40);
      site.allow({ 'a.css': `${round} again` });
      writeFileSync(site.file(`${to}/a.css`), `${round} again`);
      return { 'a.css': `${round} again` };
    },
  },
];

const machine = servers();

for (const kind of kinds) {
  const { name, lanes = LANES, rounds = ROUNDS } = kind;
  test(`${name}: what is announced is whole, the last is the last, ${lanes * rounds} times`, async () => {
    const results = await Promise.allSettled(Array.from({ length: lanes }, () => lane(kind, rounds)));
    const failures = results.flatMap((result) =>
      result.status === 'fulfilled' ? result.value : [String(result.reason)],
    );
    assert.equal(failures, []);
  });
}

/** A save that takes the machine so long (ms) may be two. */
const LATE = 50;

/** Saves so many times before the eyes of a page; gives what it got that was no complete version. */
async function lane(kind: Kind, rounds: number): Promise<readonly string[]> {
  using site = disk(kind.files);
  kind.prepare?.(site);
  using _ = folder(); // the clock of files moves on: what was prepared was not changed while the server started
  await using server = await machine.start({ root: site.file(kind.root ?? '.') });
  using page = await openPage(server.url, site);
  let allowed = 0;
  for (let round = 0; round < rounds; round++) {
    const saving = { over: false };
    const begun = performance.now();
    const reading = readOn(page, Object.keys(kind.files), saving);
    try {
      const contents = await kind.save(site, round);
      allowed += (kind.events ?? Infinity) + (performance.now() - begun > LATE ? 1 : 0);
      await shows(page, contents, round);
    } finally {
      saving.over = true;
      await reading;
    }
    const events = page.events();
    if (events > allowed) return [...(await page.end()), `${events} events after ${round + 1} saves`];
  }
  return await page.end(); // before the server is closed
}

/** Somebody who asks at any time. */
async function readOn(
  page: Page,
  names: readonly string[],
  saving: { readonly over: boolean },
): Promise<void> {
  while (!saving.over) {
    for (const name of names) await page.fetch(name);
    await pause(10);
  }
}

async function shows(page: Page, contents: Contents, round: number): Promise<void> {
  const wrong = () => Object.keys(contents).filter((name) => page.shown.get(name) !== contents[name]);
  await until('the last bytes', () => wrong().length === 0).catch((cause) => {
    const found = wrong().map((name) => `${name}: ${digest(page.shown.get(name) ?? null)}`);
    throw new Error(`Stale in round ${round}: ${found}; torn: ${page.torn()}`, { cause });
  });
}

test(`files changed while it starts: what is announced is whole, ${LANES * ROUNDS} times`, async () => {
  const lane = async () => {
    const torn: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      using site = disk({ 'a.css': 'old', 'x/y/b.css': 'old', 'x/c.css': 'old' });
      const starting = machine.start({ root: site.path });
      await pause(round);
      site.write('a.css', `${round}`);
      site.write('x/y/b.css', `${round}`);
      await using server = await starting;
      using page = await openPage(server.url, site);
      await shows(page, { 'a.css': `${round}`, 'x/y/b.css': `${round}` }, round);
      site.write('x/c.css', `${round}`);
      await shows(page, { 'x/c.css': `${round}` }, round);
      torn.push(...(await page.end()));
    }
    return torn;
  };
  assert.equal((await Promise.all(Array.from({ length: LANES }, lane))).flat(), []);
});

const BRANCHES = ['one', 'two'] as const;

/** A repository with 500 files, which differ between two branches. */
function repository(): Disk {
  const site = disk({});
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a', ...args], {
      cwd: site.path,
      stdio: 'pipe',
    });
  git('init', '-q', '-b', 'one');
  for (const branch of BRANCHES) {
    for (let i = 0; i < 500; i++) site.write(`${i % 10}/${i}.css`, `${branch} ${i}`);
    git('add', '-A');
    git('commit', '-q', '-m', branch);
    if (branch === 'one') git('checkout', '-q', '-b', 'two');
  }
  return site;
}

test(`500 files touched by git checkout: at most two events, ${8 * ROUNDS} times`, async () => {
  const lane = async () => {
    using site = repository();
    await using server = await machine.start({ root: site.path });
    let round = 0;
    // Of all 500, another ninth in each round, the others by name: nine rounds before, each had the other branch's bytes.
    const isFetched = (name: string) => Number(/\d+(?=\.css)/.exec(name)) % 9 === round % 9;
    using page = await openPage(server.url, site, isFetched);
    for (; round < 2 * ROUNDS; round++) {
      const before = page.events();
      const branch = BRANCHES[round % 2] ?? 'one';
      await once(spawn('git', ['checkout', '-q', branch], { cwd: site.path }), 'exit');
      const names = Array.from({ length: 500 }, (_, i) => [`${i % 10}/${i}.css`, `${branch} ${i}`] as const);
      await until('every file', () => names.every(([name]) => page.announced.has(name)));
      const fetched = names.filter(([name]) => isFetched(name));
      await shows(page, Object.fromEntries(fetched), round);
      page.announced.clear();
      assert.ok(page.events() - before <= 2, `${page.events() - before} events`);
    }
    return await page.end(); // before the server is closed
  };
  assert.equal((await Promise.all(Array.from({ length: 4 }, lane))).flat(), []);
});

test.after(async () => {
  await machine[Symbol.asyncDispose]();
});

test.run();
