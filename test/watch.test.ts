import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs, { readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { resolve } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Change } from '../src/events.ts';
import { type Watcher, type WatchOptions, watch } from '../src/watch.ts';
import { type Folder, folder, until, within } from './harness.ts';

/** A watched folder, and what was told of it. */
interface Watched extends AsyncDisposable {
  readonly site: Folder;
  readonly watcher: Watcher;
  readonly batches: readonly (readonly Change[])[];
  readonly warnings: readonly string[];
  /** `type name` of every change so far, in order. */
  told(): string[];
  /** What was in the file when a batch named it last: `null` for no file, `undefined` for no such batch. */
  last(name: string): string | null | undefined;
  /** Waits until every file was named in a batch while it had this content. */
  announced(expected: Readonly<Record<string, string | null>>, ms?: number): Promise<void>;
  /** As if nothing had been told yet. */
  forget(): void;
}

async function watched(site: Folder, options: WatchOptions = {}, dirs = [site.path]): Promise<Watched> {
  let batches: (readonly Change[])[] = [];
  const contents = new Map<string, string | null>();
  const warnings: string[] = [];
  const onBatch = (changes: readonly Change[]) => {
    batches.push(changes);
    for (const { file } of changes) contents.set(file, contentOf(file));
  };
  const watcher = watch(dirs, onBatch, { onWarning: (line) => warnings.push(line), ...options });
  await within('ready', watcher.ready);
  const last = (name: string) => contents.get(resolve(site.path, name));
  return {
    site,
    watcher,
    warnings,
    get batches() {
      return batches;
    },
    told: () => batches.flat().map(({ type, file }) => `${type} ${file.slice(site.path.length + 1)}`),
    last,
    async announced(expected, ms) {
      let missing = Object.keys(expected);
      let heard: number | undefined;
      const isComplete = () => {
        if (heard === batches.length) return false;
        heard = batches.length;
        missing = missing.filter((name) => last(name) !== expected[name]);
        return missing.length === 0;
      };
      await until('announcements', isComplete, ms).catch((cause) => {
        throw new Error(`Not announced: ${missing}; but ${batches.length} batches`, { cause });
      });
    },
    forget() {
      batches = [];
      contents.clear();
    },
    async [Symbol.asyncDispose]() {
      await within('close', watcher.close());
      site[Symbol.dispose]();
    },
  };
}

function contentOf(file: string): string | null {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return null;
  }
}

/** Waits until a file written now has a later time than those written so far: that clock moves in steps. */
async function tick(): Promise<void> {
  using site = folder();
  const now = () => fs.statSync(site.write(`${performance.now()}`, '')).ctimeMs;
  const begun = now();
  await until('the clock to move on', () => now() > begun);
}

/** A watched folder whose files have settled: no event of their making is left, and their bytes are known. */
async function calm(files: Record<string, string>, options?: WatchOptions): Promise<Watched> {
  const site = folder(files);
  await tick(); // or their times would not be before the start
  const it = await watched(site, options);
  for (let round = 0; it.batches.length !== 1; round++) {
    it.forget();
    site.write('calm.txt', `${round}`);
    await it.announced({ 'calm.txt': `${round}` });
  }
  await pause(50); // small trees are read in the background
  it.forget();
  return it;
}

// --- Silence: what must not be told. Each ends with a save that must be. ---

interface Quiet {
  readonly name: string;
  readonly options?: WatchOptions;
  act(site: Folder): void | Promise<void>;
}

const site = {
  'a.css': 'same',
  'x/b.css': 'same',
  'drafts/c.css': 'same',
  'd.log': 'same',
  'node_modules/e.js': 'same',
};

const quiet: Quiet[] = [
  { name: 'the same bytes again', act: (it) => void it.write('a.css', 'same') },
  {
    name: 'the same bytes in a new file',
    act: (it) => renameSync(it.write('a.css.tmp-1', 'same'), it.file('a.css')),
  },
  {
    name: 'the same bytes, after the file was empty for a while',
    async act(it) {
      it.write('a.css', '');
      await pause(100);
      it.write('a.css', 'same');
    },
  },
  {
    name: 'a file that was away for a moment',
    async act(it) {
      renameSync(it.file('a.css'), it.file('a.css~'));
      await pause(20);
      renameSync(it.file('a.css~'), it.file('a.css'));
    },
  },
  { name: 'a touch', act: (it) => fs.utimesSync(it.file('x/b.css'), new Date(), new Date()) },
  { name: 'a chmod', act: (it) => fs.chmodSync(it.file('x/b.css'), 0o600) },
  { name: 'a read', act: (it) => void readFileSync(it.file('a.css')) },
  { name: 'a touch of a folder', act: (it) => fs.utimesSync(it.file('x'), new Date(), new Date()) },
  { name: 'a touch of the root', act: (it) => fs.utimesSync(it.path, new Date(), new Date()) },
  { name: 'an empty folder', act: (it) => void fs.mkdirSync(it.file('empty/deep'), { recursive: true }) },
  {
    name: 'a file that is gone at once',
    act: (it) => rmSync(it.write('new.css', 'x')),
  },
  {
    name: 'names of editors and tools',
    act(it) {
      for (const name of [
        '4913',
        'a.css~',
        '.#a.css',
        '#a.css#',
        '.a.css.swp',
        'a.css.tmp-1',
        'a.css___jb_tmp___',
      ]) {
        it.write(name, 'x');
        it.write(`x/${name}`, 'x');
      }
      it.write('sedA1b2C3', 'x');
      it.write('.git/index', 'x');
      it.write('.cache/x/y', 'x');
      it.write('node_modules/e.js', 'x');
      it.write('node_modules/f/g.js', 'x');
      it.write('.env', 'x');
    },
  },
  {
    name: 'what the user ignores',
    options: { ignore: ['drafts', '*.log', /\.map$/, (file) => file.endsWith('.php')] },
    act(it) {
      for (const name of ['drafts/c.css', 'drafts/new/c.css', 'd.log', 'x/y/e.log', 'x/a.map', 'x/a.php'])
        it.write(name, 'x');
    },
  },
];

for (const { name, act, options } of quiet) {
  test(`watch() says nothing of ${name}`, async () => {
    await using it = await calm(site, options);
    for (let round = 0; round < 10; round++) {
      await act(it.site);
      it.site.write('calm.txt', `after ${round}`);
      await it.announced({ 'calm.txt': `after ${round}` });
    }
    assert.equal(new Set(it.told()), new Set(['change calm.txt']));
  });
}

test('watch() tells of .well-known, and of a root below a hidden folder', async () => {
  const home = folder({ '.vitepress/dist/a.css': 'old' });
  await using it = await watched(home, {}, [home.file('.vitepress/dist')]);
  home.write('.vitepress/dist/a.css', 'new');
  home.write('.vitepress/dist/.well-known/b.txt', 'new');
  await it.announced({ '.vitepress/dist/a.css': 'new', '.vitepress/dist/.well-known/b.txt': 'new' });
});

// --- What a batch is ---

test('watch() tells of a saved file alone within 20 ms, at the median', async () => {
  const home = folder({ 'a.css': 'old' });
  const times: number[] = [];
  let saved = 0;
  const watcher = watch([home.path], () => times.push(performance.now() - saved));
  await watcher.ready;
  for (let round = 0; round < 51; round++) {
    await pause(10);
    saved = performance.now();
    home.write('a.css', `${round}`);
    await until('the batch', () => times.length > round);
  }
  await watcher.close();
  home[Symbol.dispose]();
  const median = times.sort((a, b) => a - b)[25] ?? Infinity;
  assert.ok(median < 20, `${median} ms`);
});

test('watch() names the kind of each change', async () => {
  await using it = await calm({ 'a.css': 'old', 'b.css': 'old' });
  it.site.write('a.css', 'new');
  rmSync(it.site.file('b.css'));
  it.site.write('x/c.css', 'new');
  await it.announced({ 'a.css': 'new', 'b.css': null, 'x/c.css': 'new' });
  assert.equal(it.told().sort(), ['add x/c.css', 'change a.css', 'unlink b.css']);
});

test('watch() holds the batch of an emptied file until it has content', async () => {
  await using it = await calm({ 'a.css': 'old', 'b.css': 'old' });
  it.site.write('a.css', '');
  it.site.write('b.css', 'new');
  await pause(100);
  it.site.write('a.css', 'new');
  await it.announced({ 'a.css': 'new', 'b.css': 'new' });
  assert.is(it.batches.length, 1);
});

test('watch() tells of a file that stays empty after a bounded time', async () => {
  await using it = await calm({ 'a.css': 'old' });
  it.site.write('a.css', '');
  await it.announced({ 'a.css': '' }, 2000);
});

test('watch() tells of a file that is written without end', async () => {
  await using it = await calm({ 'a.css': 'old', 'b.log': '' });
  let n = 0;
  const timer = setInterval(() => fs.appendFileSync(it.site.file('b.log'), `${n++}\n`), 1);
  await pause(50);
  it.site.write('a.css', 'new');
  await it.announced({ 'a.css': 'new' }, 2000);
  clearInterval(timer);
});

test('settled() waits while a file is saved, and not otherwise', async () => {
  await using it = await calm({ 'a.css': 'old', 'b.css': 'old' });
  it.site.write('a.css', '');
  let settled = false;
  const waiting = it.watcher.settled(it.site.file('a.css')).then(() => {
    settled = true;
  });
  await it.watcher.settled(it.site.file('b.css'));
  assert.not(settled);
  it.site.write('a.css', 'new');
  await waiting;
  assert.is(contentOf(it.site.file('a.css')), 'new');
});

test('settled() waits at most a second', async () => {
  await using it = await calm({ 'a.css': 'old' });
  const timer = setInterval(() => it.site.write('a.css', ''), 2);
  await pause(50);
  await within('a second', it.watcher.settled(it.site.file('a.css')), 1250);
  clearInterval(timer);
});

// --- Roots ---

test('watch() of single files', async () => {
  const home = folder({ 'a.json': 'old', 'b.json': 'old', '.env': 'old' });
  await using it = await watched(home, {}, [home.file('a.json'), home.file('.env')]);
  home.write('b.json', 'new');
  home.write('a.json', 'new');
  home.write('.env', 'new');
  await it.announced({ 'a.json': 'new', '.env': 'new' });
  rmSync(home.file('a.json'));
  await it.announced({ 'a.json': null });
  home.write('a.json', 'back');
  await it.announced({ 'a.json': 'back' });
  assert.not(it.told().join().includes('b.json'));
});

test('watch() awaits a root that is not there yet', async () => {
  const home = folder();
  await using it = await watched(home, {}, [home.file('later/site')]);
  home.write('later/site/x/a.css', 'new');
  await it.announced({ 'later/site/x/a.css': 'new' });
  home.write('later/site/x/a.css', 'newer');
  await it.announced({ 'later/site/x/a.css': 'newer' });
});

test('watch() of a root whose parent is renamed and made again', async () => {
  const home = folder({ 'x/site/a.css': 'old' });
  await using it = await watched(home, {}, [home.file('x/site')]);
  renameSync(home.file('x'), home.file('y'));
  await it.announced({ 'x/site/a.css': null });
  home.write('x/site/a.css', 'new');
  await it.announced({ 'x/site/a.css': 'new' });
  home.write('y/site/a.css', 'none of ours');
  home.write('x/site/a.css', 'newer');
  await it.announced({ 'x/site/a.css': 'newer' });
});

test('watch() follows no symlink out of the root, and survives those that lead nowhere', async () => {
  using outside = folder({ 'secret.css': 'old', 'x/secret.css': 'old' });
  const home = folder({ 'a.css': 'old' });
  symlinkSync(outside.file('secret.css'), home.file('link.css'));
  symlinkSync(outside.file('x'), home.file('link'));
  symlinkSync('loop', home.file('loop'));
  symlinkSync('.', home.file('self'));
  symlinkSync('nowhere', home.file('dangling'));
  await tick();
  await using it = await watched(home);
  outside.write('secret.css', 'new');
  outside.write('x/secret.css', 'new');
  home.write('a.css', 'new');
  await it.announced({ 'a.css': 'new', 'self/a.css': 'new' });
  assert.equal(it.told(), ['change a.css', 'change self/a.css']);
  assert.equal(it.warnings, []);
});

test('watch() with followSymlinks: what links lead to outside of the root has their names', async () => {
  using outside = folder({ 'file.css': 'old', 'x/deep/a.css': 'old', 'y/b.css': 'old', 'other.css': 'old' });
  const home = folder({ 'site/a.css': 'old' });
  symlinkSync(outside.file('file.css'), home.file('site/file.css'));
  symlinkSync(outside.file('x'), home.file('site/x'));
  symlinkSync(outside.file('x/deep'), home.file('site/deep'));
  symlinkSync('..', home.file('site/up'));
  await tick();
  await using it = await watched(home, { followSymlinks: true }, [home.file('site')]);
  outside.write('file.css', 'new');
  outside.write('x/deep/a.css', 'new');
  outside.write('other.css', 'none of ours');
  home.write('beside.css', 'none of ours');
  home.write('site/a.css', 'new');
  const names = ['file.css', 'x/deep/a.css', 'deep/a.css', 'a.css'].map((name) => `site/${name}`);
  await it.announced(Object.fromEntries(names.map((name) => [name, 'new'])));
  assert.equal(new Set(it.told()), new Set(names.map((name) => `change ${name}`)));

  // One that is made later, and led elsewhere.
  symlinkSync(outside.file('y'), home.file('site/y'));
  await it.announced({ 'site/y/b.css': 'old' });
  outside.write('y/b.css', 'new');
  await it.announced({ 'site/y/b.css': 'new' });
  symlinkSync(outside.file('x'), home.file('site/y2'));
  renameSync(home.file('site/y2'), home.file('site/y'));
  await it.announced({ 'site/y/b.css': null });
  outside.write('x/deep/a.css', 'newer');
  await it.announced({ 'site/y/deep/a.css': 'newer' });
  // Nothing leads there any more.
  it.forget();
  outside.write('y/b.css', 'none of ours');
  home.write('site/a.css', 'newer');
  await it.announced({ 'site/a.css': 'newer' });
  assert.equal(it.told(), ['change site/a.css']);
  assert.equal(it.warnings, []);
});

test('watch() with followSymlinks: links in what is followed, and a file before its folder', async () => {
  using outside = folder({ 'lib/a.css': 'old', 'lib/sub/b.css': 'old', 'other/c.css': 'old' });
  const home = folder({ 'site/css/d.css': 'old' });
  symlinkSync(outside.file('lib'), home.file('site/lib'));
  symlinkSync(outside.file('other'), outside.file('lib/other'));
  symlinkSync(home.file('site/css'), outside.file('lib/css'));
  await tick();
  await using it = await watched(home, { followSymlinks: true }, [home.file('site')]);
  outside.write('other/c.css', 'new');
  await it.announced({ 'site/lib/other/c.css': 'new' });
  home.write('site/css/d.css', 'new');
  await it.announced({ 'site/css/d.css': 'new', 'site/lib/css/d.css': 'new' });
  const names = ['site/lib/other/c.css', 'site/css/d.css', 'site/lib/css/d.css'];
  assert.equal(new Set(it.told()), new Set(names.map((name) => `change ${name}`)));
});

test('watch() with followSymlinks: a folder of which a file was followed before', async () => {
  using outside = folder({ 'a.css': 'old', 'sub/b.css': 'old' });
  const home = folder({ 'site/x.css': 'old' });
  symlinkSync(outside.file('a.css'), home.file('site/a.css'));
  await tick();
  await using it = await watched(home, { followSymlinks: true }, [home.file('site')]);
  symlinkSync(outside.path, home.file('site/lib'));
  await it.announced({ 'site/lib/sub/b.css': 'old' });
  outside.write('sub/b.css', 'new');
  outside.write('a.css', 'new');
  await it.announced({ 'site/lib/sub/b.css': 'new', 'site/lib/a.css': 'new', 'site/a.css': 'new' });
});

test('watch() twice in one process: both see a root that is made again', async () => {
  using home = folder({ 'site/x/a.css': 'old' });
  await using one = await watched(folder(), {}, [home.file('site')]);
  await using two = await watched(folder(), {}, [home.file('site')]);
  const file = home.file('site/x/a.css');
  for (let round = 0; round < 10; round++) {
    rmSync(home.file('site'), { recursive: true });
    for (const content of [`${round}`, `${round} again`]) {
      one.forget();
      two.forget();
      home.write('site/x/a.css', content);
      await until(`"${content}" twice`, () => one.last(file) === content && two.last(file) === content);
    }
  }
});

// --- Where the system gives up ---

/** A module of Node with some functions replaced, for everybody in this process, until the end of the block. */
function replaced<Module extends object>(module: Module, functions: Partial<Module>): Disposable {
  const names = Object.keys(functions) as (keyof Module)[];
  const before = Object.fromEntries(names.map((name) => [name, module[name]]));
  Object.assign(module, functions);
  syncBuiltinESMExports();
  return {
    [Symbol.dispose]() {
      Object.assign(module, before);
      syncBuiltinESMExports();
    },
  };
}

for (const [code, fix] of [
  ['ENOSPC', 'fs.inotify.max_user_watches'],
  ['EMFILE', 'fs.inotify.max_user_instances'],
] as const) {
  test(`watch() polls what is over the limit (${code}), and says the fix once`, async () => {
    const real = fs.watch;
    let left = 3;
    const limited = (...args: Parameters<typeof real>) => {
      if (left-- <= 0) throw Object.assign(new Error(code), { code });
      return real(...args);
    };
    using _ = replaced(fs, { watch: limited as typeof real });
    const files = Object.fromEntries(Array.from({ length: 70 }, (_, i) => [`${i}/x/a.css`, 'old']));
    await using it = await watched(folder(files));
    await pause(100);
    for (const name of Object.keys(files)) it.site.write(name, 'new');
    it.site.write('0/new/b.css', 'new');
    await it.announced({
      ...Object.fromEntries(Object.keys(files).map((name) => [name, 'new'])),
      '0/new/b.css': 'new',
    });
    assert.is(it.warnings.length, 1);
    assert.ok(it.warnings[0]?.includes(fix), it.warnings[0]);
  });
}

test('watch() names an unreadable folder once, and watches the rest', async () => {
  const home = folder({ 'a.css': 'old', 'closed/b.css': 'old' });
  fs.chmodSync(home.path, 0o777);
  fs.chmodSync(home.file('closed'), 0);
  const user = process.geteuid?.();
  if (user === 0) process.seteuid?.(65534);
  try {
    await using it = await watched(home);
    assert.is(it.warnings.length, 1);
    assert.ok(it.warnings[0]?.includes(home.file('closed')), it.warnings[0]);
    home.write('new.css', 'new');
    await it.announced({ 'new.css': 'new' });
    assert.is(it.warnings.length, 1);
    if (user === 0) process.seteuid?.(0);
    fs.chmodSync(home.file('closed'), 0o755);
    await it.announced({ 'closed/b.css': 'old' });
  } finally {
    if (user === 0) process.seteuid?.(0);
  }
});

test('watch() misses nothing when the kernel drops events', async () => {
  await using it = await calm({ 'a.css': 'old', 'b.css': 'old', 'c.css': 'old' });
  const files = ['a.css', 'b.css'].map((name) => fs.openSync(it.site.file(name), 'w'));
  for (let i = 0; i < 10_000; i++) for (const file of files) fs.writeSync(file, '.'); // 16,384 fill the queue
  for (const file of files) fs.closeSync(file);
  const unheard = { 'c.css': 'new', 'd.css': 'new', 'x/y/e.css': 'new' };
  for (const [name, content] of Object.entries(unheard)) it.site.write(name, content);
  await it.announced(unheard);
});

test('watch() with poll: saves, new folders, deletions', async () => {
  const lane = async () => {
    await using it = await watched(folder({ 'a.css': 'old', 'x/b.css': 'old' }), { poll: 50 });
    for (let round = 0; round < 10; round++) {
      it.forget();
      it.site.write('a.css', `${round}`);
      it.site.write(`x/${round}/c.css`, `${round}`);
      await pause(round * 10);
      it.site.write(`x/${round}/c.css`, `${round} again`);
      await it.announced({ 'a.css': `${round}`, [`x/${round}/c.css`]: `${round} again` });
      rmSync(it.site.file(`x/${round}`), { recursive: true });
      renameSync(it.site.write('b.tmp', `${round}`), it.site.file('x/b.css'));
      await it.announced({ 'x/b.css': `${round}`, [`x/${round}/c.css`]: null });
    }
  };
  await Promise.all(Array.from({ length: 4 }, lane));
});

test('watch() with poll follows no symlink out of the root', async () => {
  using outside = folder({ 'secret.css': 'old' });
  await using it = await watched(folder({ 'a.css': 'old' }), { poll: 20 });
  symlinkSync(outside.file('secret.css'), it.site.file('link.css'));
  await pause(1500);
  it.forget();
  outside.write('secret.css', 'new');
  await pause(100);
  it.site.write('a.css', 'new');
  await it.announced({ 'a.css': 'new' });
  assert.equal(new Set(it.told()), new Set(['change a.css']));
});

test('prefer() of a file watches its folder at once, wherever the walk of the tree is', async () => {
  const real = fs.promises.readdir;
  let open = () => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  using site = folder({ 'a.css': 'old', 'x/y/b.css': 'old', 'x/y/c.css': 'old' });
  await tick();
  // The walk does not get beyond the first folder.
  const slow = async (...args: Parameters<typeof real>) => {
    if (args[0] === site.path) await gate;
    return real(...args);
  };
  using _ = replaced(fs.promises, { readdir: slow as typeof real });
  const told: string[] = [];
  const watcher = watch([site.path], (changes) => {
    for (const { type, file } of changes) told.push(`${type} ${file.slice(site.path.length + 1)}`);
  });
  try {
    watcher.prefer(site.file('x/y/b.css'));
    site.write('x/y/b.css', 'new');
    await until('the preferred file', () => told.length > 0);
    site.write('x/y/c.css', 'new');
    await until('its neighbour', () => told.length > 1);
    assert.equal(told, ['change x/y/b.css', 'change x/y/c.css']);
  } finally {
    open();
    await within('ready', watcher.ready);
    await watcher.close();
  }
});

test('prefer() of a file in a new folder, before that was looked at, takes nothing in it for old', async () => {
  await using it = await calm({ 'a.css': 'old' });
  for (let i = 0; i < 20; i++) {
    const [asked, beside, below, later] = [`${i}/n/a`, `${i}/n/b`, `${i}/n/x/c`, `${i}/n/x/d`] as const;
    for (const name of [asked, beside, below]) it.site.write(name, 'new');
    it.watcher.prefer(it.site.file(asked));
    await it.announced({ [asked]: 'new', [beside]: 'new', [below]: 'new' });
    it.site.write(later, 'new');
    await it.announced({ [later]: 'new' });
  }
});

test('a folder that is replaced by another of its name is watched with all below', async () => {
  await using it = await calm({
    'dist/a/b/c.css': 'old',
    'next/a/b/c.css': 'newer',
    'next/a/b/d.css': 'new',
  });
  for (const name of ['dist', 'next', 'dist']) {
    const [, other] = name === 'dist' ? ['dist', 'next'] : ['next', 'dist'];
    renameSync(it.site.file(name), it.site.file('away'));
    renameSync(it.site.file(other), it.site.file(name));
    renameSync(it.site.file('away'), it.site.file(other));
    for (const dir of [name, other]) {
      it.site.write(`${dir}/a/b/c.css`, `saved in ${dir}`);
      it.site.write(`${dir}/a/new/${name}.css`, 'new');
      await it.announced({ [`${dir}/a/b/c.css`]: `saved in ${dir}`, [`${dir}/a/new/${name}.css`]: 'new' });
    }
  }
});

test('of a folder that is replaced by another of its name, what was there is not new', async () => {
  const same = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`sub/${i}.html`, `page ${i}`]));
  const under = (dir: string, files: Record<string, string>) =>
    Object.fromEntries(Object.entries(files).map(([name, text]) => [`${dir}/${name}`, text]));
  await using it = await calm({ ...under('dist', { ...same, 'a.css': 'old' }) });
  for (const [name, text] of Object.entries({ ...same, 'a.css': 'new' }))
    it.site.write(`.next/${name}`, text);
  renameSync(it.site.file('dist'), it.site.file('.old'));
  renameSync(it.site.file('.next'), it.site.file('dist'));
  await it.announced({ 'dist/a.css': 'new' });
  it.site.write('dist/sub/1.html', 'end');
  await it.announced({ 'dist/sub/1.html': 'end' });
  assert.equal(
    it.told().filter((line) => line.startsWith('add')),
    [],
  );
});

test('a new folder whose subfolder a page has asked of at once goes and comes with that', async () => {
  using elsewhere = folder({ 'a/f.css': 'other', 'a/g.css': 'other' });
  await using it = await calm({ 'a.css': 'old' });
  it.site.write('dist/a/f.css', 'new');
  it.watcher.prefer(it.site.file('dist/a/f.css'));
  await it.announced({ 'dist/a/f.css': 'new' });
  renameSync(it.site.file('dist'), elsewhere.file('away'));
  await it.announced({ 'dist/a/f.css': null });
  renameSync(elsewhere.file('a'), elsewhere.file('away/b'));
  renameSync(elsewhere.file('away'), it.site.file('dist'));
  await it.announced({ 'dist/a/f.css': 'new', 'dist/b/g.css': 'other' });
  it.site.write('dist/a/f.css', 'newer');
  await it.announced({ 'dist/a/f.css': 'newer' });
});

test('what is ignored takes no watch, however deep it is', async () => {
  const before = watches();
  const names = [
    'a.css',
    'x/b.css',
    'x/drafts/y/z/c.css',
    'node_modules/d/e/f.js',
    '.git/g/h',
    'i/log/j.css',
  ];
  await using it = await watched(folder(Object.fromEntries(names.map((name) => [name, 'old']))), {
    ignore: ['drafts', 'i/log'],
  });
  if (isLinux) assert.is(watches() - before, 3); // itself, x and i
  for (const name of [...names.slice(2), 'x/drafts/new/c.css', 'x/b.css']) it.site.write(name, 'new');
  await it.announced({ 'x/b.css': 'new' });
  assert.equal(new Set(it.told()), new Set(['change x/b.css']));
});

// --- Size ---

/** Watches of this process, as the kernel counts them. */
function watches(): number {
  let n = 0;
  for (const name of fs.readdirSync('/proc/self/fdinfo')) {
    n += contentOf(`/proc/self/fdinfo/${name}`)?.match(/^inotify /gm)?.length ?? 0;
  }
  return n;
}

/** The most time (ms) that this process worked in one turn of its event loop; other programs do not count. */
function longestTurn(): Disposable & { ms(): number } {
  let longest = 0;
  let before = process.cpuUsage();
  const timer = setInterval(() => {
    const { user, system } = process.cpuUsage(before);
    before = process.cpuUsage();
    longest = Math.max(longest, (user + system) / 1000);
  }, 1);
  return { ms: () => longest, [Symbol.dispose]: () => clearInterval(timer) };
}

const isLinux = process.platform === 'linux';

test('watch() of 5,000 files in 250 folders: a watch a folder, a preferred file at once, nothing blocked', async () => {
  using site = folder();
  for (let i = 0; i < 250; i++) {
    site.write(`${i % 10}/${i}/0.css`, 'old');
    for (let j = 1; j < 20; j++) writeFileSync(site.file(`${i % 10}/${i}/${j}.css`), 'old');
  }
  const contents = new Map<string, string | null>();
  await tick();
  using work = longestTurn();
  const watcher = watch([site.path], (changes) => {
    for (const { file } of changes) contents.set(file, contentOf(file));
  });
  watcher.prefer(site.file('9/249/7.css'));
  site.write('9/249/7.css', 'new');
  await until('the preferred file', () => contents.get(site.file('9/249/7.css')) === 'new', 1000);
  await watcher.ready;
  if (isLinux) assert.is(watches(), 1 + 10 + 250);
  site.write('3/3/3.css', 'new');
  await until('any other', () => contents.get(site.file('3/3/3.css')) === 'new', 1000);
  assert.ok(work.ms() < 50, `blocked for ${work.ms()} ms`);
  await watcher.close();
});

test('close() leaves nothing, at any time, twice', async () => {
  for (const ms of [0, 1, 2, 5, 10, 30, 100]) {
    using site = folder({ 'a.css': 'old', 'x/b.css': 'old' });
    const before = process.getActiveResourcesInfo();
    let told = false;
    const watcher = watch([site.path, site.file('missing')], () => {
      assert.not(told);
    });
    await pause(ms);
    site.write('a.css', 'new');
    const closing = watcher.close();
    told = true;
    assert.is(watcher.close(), closing);
    await closing;
    const left = process.getActiveResourcesInfo();
    for (const resource of before) left.splice(left.indexOf(resource), left.includes(resource) ? 1 : 0);
    assert.equal(left, [], `${ms} ms after the start`);
    await watcher.ready;
  }
});

test('close() lets the process end', async () => {
  using site = folder({ 'a.css': 'old' });
  const script = `
    const { watch } = await import(${JSON.stringify(new URL('../src/watch.ts', import.meta.url))});
    const watcher = watch([${JSON.stringify(site.path)}], () => watcher.close());
    await watcher.ready;
    (await import('node:fs')).writeFileSync(${JSON.stringify(site.file('a.css'))}, 'new');`;
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', script], {
    stdio: 'inherit',
  });
  const [status] = await within('the end', once(child, 'exit'));
  assert.is(status, 0);
});

test.run();
