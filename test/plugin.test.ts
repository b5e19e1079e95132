import { mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { basename } from 'node:path';
import * as esbuildTool from 'esbuild';
import * as rolldownTool from 'rolldown';
import * as rollupTool from 'rollup';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import * as viteTool from 'vite';
import { type Controls, esbuild, rollup } from '../src/plugin.ts';
import { type Folder, folder, until } from './harness.ts';

/** Saves in one step: a tool that reads an emptied file fails at that, too. */
function replace(dir: Folder, name: string, content: string): void {
  renameSync(dir.write('saved', content), dir.file(name));
}

type Said = ['reload', readonly string[] | undefined] | ['css', string | undefined] | ['error', string];

/** Controls that write down what they are told. */
function recorder(root?: string): Controls & { readonly said: Said[]; take(): Said[] } {
  const said: Said[] = [];
  return {
    said,
    take: () => said.splice(0),
    reload: (paths) => void said.push(['reload', paths && [...paths].sort()]),
    css: (path) => void said.push(['css', path]),
    error: (error) => void said.push(['error', textOf(error)]),
    ...(root === undefined ? {} : { root }),
  };
}

/** The tool's message, wherever it is in what the tool throws. */
function textOf(error: unknown): string {
  assert.instance(error, Error);
  if (!(error instanceof Error)) return '';
  return 'errors' in error ? `${error.message}: ${JSON.stringify(error.errors)}` : error.message;
}

const sources = {
  'src/main.js': "import { part } from './part.js';\nimport './style.css';\nconsole.log(part);\n",
  'src/plain.js': "import { part } from './part.js';\nconsole.log(part);\n",
  'src/part.js': 'export const part = 1;\n',
  'src/style.css': 'body { color: red }\n',
  'index.html': '<!doctype html><script type="module" src="/src/main.js"></script>',
};

// --- esbuild

interface EsbuildCase extends AsyncDisposable {
  readonly dir: Folder;
  readonly server: ReturnType<typeof recorder>;
  build(): Promise<Said[]>;
}

async function esbuildIn(
  options: esbuildTool.BuildOptions = {},
  root: (dir: Folder) => string | undefined = (dir) => dir.file('dist'),
): Promise<EsbuildCase> {
  const dir = folder(sources);
  const server = recorder(root(dir));
  const context = await esbuildTool.context({
    absWorkingDir: dir.path,
    entryPoints: ['src/main.js'],
    bundle: true,
    outdir: 'dist',
    logLevel: 'silent',
    ...options,
    plugins: [esbuild(server)],
  });
  return {
    dir,
    server,
    build: async () => {
      await context.rebuild().catch(() => {}); // the plugin is told too
      return server.take();
    },
    [Symbol.asyncDispose]: async () => {
      await context.dispose();
      dir[Symbol.dispose]();
    },
  };
}

test('esbuild() says nothing of the first build, nor of one that changed nothing', async () => {
  await using run = await esbuildIn();
  assert.equal(await run.build(), []);
  assert.equal(await run.build(), []);
  replace(run.dir, 'src/part.js', `${sources['src/part.js']}\n// a remark that is left out\n`);
  assert.equal(await run.build(), []);
});

test('esbuild() says reload for a script, css for a stylesheet, reload for both', async () => {
  await using run = await esbuildIn();
  await run.build();
  replace(run.dir, 'src/part.js', 'export const part = 2;\n');
  assert.equal(await run.build(), [['reload', ['/main.js']]]);
  replace(run.dir, 'src/style.css', 'body { color: blue }\n');
  assert.equal(await run.build(), [['css', '/main.css']]);
  replace(run.dir, 'src/part.js', 'export const part = 3;\n');
  replace(run.dir, 'src/style.css', 'body { color: green }\n');
  assert.equal(await run.build(), [['reload', ['/main.css', '/main.js']]]);
});

for (const sourcemap of [true, 'external', 'inline'] as const) {
  test(`esbuild() with sourcemap ${sourcemap} says css for a stylesheet`, async () => {
    await using run = await esbuildIn({ sourcemap });
    await run.build();
    replace(run.dir, 'src/style.css', 'body {\n  color: blue }\n');
    assert.equal(await run.build(), [['css', '/main.css']]);
  });
}

test('esbuild() says css for each stylesheet', async () => {
  await using run = await esbuildIn({ entryPoints: ['src/style.css', 'src/main.js'] });
  await run.build();
  replace(run.dir, 'src/style.css', 'body { color: blue }\n');
  assert.equal((await run.build()).sort(), [
    ['css', '/main.css'],
    ['css', '/style.css'],
  ]);
});

test('esbuild() says reload for names with a hash, with the one that is gone', async () => {
  await using run = await esbuildIn({ entryNames: '[name]-[hash]' });
  await run.build();
  replace(run.dir, 'src/style.css', 'body { color: blue }\n');
  const [[type, paths] = [], ...others] = await run.build();
  assert.is(type, 'reload');
  assert.equal(
    (paths as string[]).map((path) => path.replace(/-\w+\./, '.')),
    ['/main.css', '/main.css'],
  );
  assert.equal(others, []);
});

test('esbuild() compares what is not written', async () => {
  await using run = await esbuildIn({ write: false, sourcemap: true });
  assert.equal(await run.build(), []);
  replace(run.dir, 'src/style.css', 'body { color: blue }\n');
  assert.equal(await run.build(), [['css', '/main.css']]);
});

test('esbuild() tells an error, and the next good build clears it', async () => {
  await using run = await esbuildIn();
  await run.build();
  replace(run.dir, 'src/part.js', 'export const part = ;\n');
  const [[type, text] = [], ...others] = await run.build();
  assert.is(type, 'error');
  assert.match(String(text), /^Build failed with 1 error: .*Unexpected \\";\\"/);
  assert.match(String(text), /"file":"src\/part\.js"/);
  assert.equal(others, []);
  replace(run.dir, 'src/part.js', 'export const part = 2;\n');
  assert.equal(await run.build(), [['reload', ['/main.js']]]);
});

test('esbuild() clears an error when all is as it was before', async () => {
  await using run = await esbuildIn();
  await run.build();
  replace(run.dir, 'src/part.js', 'export const part = ;\n');
  assert.is((await run.build())[0]?.[0], 'error');
  replace(run.dir, 'src/part.js', sources['src/part.js']);
  assert.equal(await run.build(), [['reload', undefined]]);
  assert.equal(await run.build(), []);
});

test('esbuild() of a first build that fails says so, and reload when it is good', async () => {
  await using run = await esbuildIn();
  replace(run.dir, 'src/part.js', 'export const part = ;\n');
  assert.is((await run.build())[0]?.[0], 'error');
  replace(run.dir, 'src/part.js', sources['src/part.js']);
  assert.equal(await run.build(), [['reload', undefined]]);
});

test('esbuild() without a root, and beside it, concerns every page', async () => {
  for (const root of [() => undefined, (dir: Folder) => dir.file('elsewhere')]) {
    await using run = await esbuildIn({}, root);
    await run.build();
    replace(run.dir, 'src/style.css', 'body { color: blue }\n');
    assert.equal(await run.build(), [['css', undefined]]);
    replace(run.dir, 'src/part.js', 'export const part = 2;\n');
    assert.equal(await run.build(), [['reload', undefined]]);
  }
});

test('esbuild() knows the root by another name', async () => {
  await using run = await esbuildIn({}, (dir) => {
    mkdirSync(dir.file('dist'));
    symlinkSync(dir.file('dist'), dir.file('link'));
    return dir.file('link');
  });
  await run.build();
  replace(run.dir, 'src/part.js', 'export const part = 2;\n');
  assert.equal(await run.build(), [['reload', ['/main.js']]]);
});

test('esbuild() in watch mode', async () => {
  using dir = folder(sources);
  const server = recorder(dir.path);
  const context = await esbuildTool.context({
    entryPoints: [dir.file('src/main.js')],
    bundle: true,
    outfile: dir.file('out/app.js'),
    logLevel: 'silent',
    plugins: [esbuild(server)],
  });
  try {
    await context.watch();
    await context.rebuild(); // comes after the first of the watch
    replace(dir, 'src/style.css', 'body { color: blue }\n');
    await until('css', () => server.said.length > 0, 20_000);
    assert.equal(server.take(), [['css', '/out/app.css']]);
  } finally {
    await context.dispose();
  }
});

// --- Rollup, Rolldown, Vite: one after the other the same story

/** Rollup has no CSS of its own: a stylesheet that is imported becomes an asset. */
const cssAsset: rollupTool.Plugin = {
  name: 'css-asset',
  transform(code, id) {
    if (!id.endsWith('.css')) return undefined;
    this.emitFile({ type: 'asset', fileName: basename(id), source: code });
    return { code: '', map: null, moduleSideEffects: true };
  },
};

interface Watched {
  close(): unknown;
}

/** Starts a tool that watches; `ended` is called after each build, good or bad. */
type StartTool = (dir: Folder, server: Controls, ended: () => void) => Promise<Watched> | Watched;

const rollupTools: [string, { script: string; style: string }, StartTool][] = [
  [
    'Rollup',
    { script: '/main.js', style: '/style.css' },
    (dir, server, ended) => {
      const watcher = rollupTool.watch({
        input: dir.file('src/main.js'),
        output: { dir: dir.file('dist'), sourcemap: true },
        plugins: [cssAsset, rollup(server)],
        onwarn: () => {},
        watch: { buildDelay: 20 },
      });
      watcher.on('event', (event) => {
        if ('result' in event) event.result?.close();
        if (event.code === 'END' || event.code === 'ERROR') ended();
      });
      return watcher;
    },
  ],
  [
    'Rolldown',
    { script: '/plain.js', style: '' },
    (dir, server, ended) => {
      const watcher = rolldownTool.watch({
        input: dir.file('src/plain.js'),
        output: { dir: dir.file('dist'), sourcemap: true },
        plugins: [rollup(server)],
        logLevel: 'silent',
      });
      watcher.on('event', async (event) => {
        if ('result' in event) await event.result.close();
        if (event.code === 'END' || event.code === 'ERROR') ended();
      });
      return watcher;
    },
  ],
  [
    'Vite',
    { script: '/assets/index.js', style: '/assets/index.css' },
    async (dir, server, ended) => {
      const watcher = await viteTool.build({
        root: dir.path,
        configFile: false,
        logLevel: 'silent',
        build: {
          outDir: 'dist',
          watch: {},
          rolldownOptions: {
            output: { entryFileNames: 'assets/[name].js', assetFileNames: 'assets/[name][extname]' },
          },
        },
        plugins: [rollup(server)],
      });
      if (!('on' in watcher)) throw new Error('vite build --watch gave no watcher');
      watcher.on('event', (event) => {
        if (event.code === 'END' || event.code === 'ERROR') ended();
      });
      return watcher;
    },
  ],
];

interface Story {
  readonly server: ReturnType<typeof recorder>;
  /** Writes a file and gives what was said next. */
  save(name: string, content: string): Promise<Said[]>;
  /** Does so for a file that fails to build; a tool may do that twice, and each time is told once. */
  spoil(name: string, content: string): Promise<Said[]>;
  /** Does so for a file that had failed to build, and may fail once more before the tool sees the new one. */
  mend(name: string, content: string): Promise<Said[]>;
  /** Writes a file and waits for a build. */
  rebuild(name: string, content: string): Promise<void>;
}

/** Tells `story` with a tool that watches and has built once. */
async function watching(
  startTool: StartTool,
  story: (told: Story) => Promise<void>,
  prepare: (dir: Folder) => void = () => {},
): Promise<void> {
  using dir = folder(sources);
  prepare(dir);
  const server = recorder(dir.file('dist'));
  let builds = 0;
  const watcher = await startTool(dir, server, () => {
    builds += 1;
  });
  /** Writes, and writes again: tools miss changes before they watch, and those that follow another within 50 ms. */
  const insist = async (what: string, done: () => boolean, name: string, content: string) => {
    let written = Number.NEGATIVE_INFINITY;
    await until(
      what,
      () => {
        if (done()) return true;
        if (performance.now() - written < 1_500) return false;
        replace(dir, name, content);
        written = performance.now();
        return false;
      },
      30_000,
    );
  };
  const save = async (name: string, content: string) => {
    await insist(`something to be said of ${name}`, () => server.said.length > 0, name, content);
    return server.take();
  };
  const spoil = async (name: string, content: string) => {
    const before = builds;
    const told = await save(name, content);
    await until('as many builds as words', () => builds - before >= told.length);
    return told;
  };
  const mend = async (name: string, content: string) => {
    const isGood = ([type]: Said) => type !== 'error';
    await insist(`${name} to be mended`, () => server.said.some(isGood), name, content);
    return server.take().filter(isGood);
  };
  const rebuild = async (name: string, content: string) => {
    const before = builds;
    await insist('the tool to build', () => builds > before, name, content);
  };
  try {
    await until('the first build', () => builds > 0, 30_000);
    await story({ server, save, spoil, mend, rebuild });
  } finally {
    await watcher.close();
  }
}

for (const [tool, { script, style }, startTool] of rollupTools) {
  test(`rollup() with ${tool} says what each build changed, and its errors`, async () => {
    await watching(startTool, async ({ server, save, spoil, mend, rebuild }) => {
      assert.equal(server.take(), [], 'the first build');
      assert.equal(await save('src/part.js', 'export const part = 2;\n'), [['reload', [script]]]);
      await rebuild('src/part.js', 'export const part = 2;\n\n'); // nothing, or it comes with the next
      if (style) assert.equal(await save('src/style.css', 'body{color:#00f}\n'), [['css', style]]);
      for (const [type, text] of await spoil('src/part.js', 'export const part = ;\n')) {
        assert.is(type, 'error');
        assert.match(String(text), /part\.js|PARSE_ERROR|Expression expected|Unexpected/);
      }
      assert.equal(await mend('src/part.js', 'export const part = 2;\n'), [['reload', undefined]]);
      assert.equal(await save('src/part.js', 'export const part = 3;\n'), [['reload', [script]]]);
    });
  });

  test(`rollup() with ${tool} of a first build that fails`, async () => {
    const story = async ({ server, mend }: Story) => {
      assert.equal(
        server.take().map(([type]) => type),
        ['error'],
      );
      assert.equal(await mend('src/part.js', 'export const part = 1;\n'), [['reload', undefined]]);
    };
    await watching(startTool, story, (dir) => dir.write('src/part.js', 'export const part = ;\n'));
  });
}

test('rollup() tells an error while the outputs are made', async () => {
  let fail = false;
  const failing: rollupTool.Plugin = {
    name: 'failing',
    renderChunk: () => {
      if (fail) throw new Error('no output');
    },
  };
  using dir = folder(sources);
  const server = recorder(dir.path);
  const build = async () => {
    const bundle = await rollupTool.rollup({ input: dir.file('src/plain.js'), plugins: [failing, plugin] });
    await bundle.write({ dir: dir.file('dist') }).catch(() => {}); // the plugin is told too
    await bundle.close();
    return server.take();
  };
  const plugin = rollup(server);
  assert.equal(await build(), []);
  fail = true;
  const [[type, text] = []] = await build();
  assert.is(type, 'error');
  assert.match(String(text), /no output/);
  fail = false;
  assert.equal(await build(), [['reload', undefined]]);
});

test('rollup() keeps outputs apart', async () => {
  using dir = folder(sources);
  const server = recorder(dir.path);
  const plugin = rollup(server);
  const build = async () => {
    const bundle = await rollupTool.rollup({ input: dir.file('src/plain.js'), plugins: [plugin] });
    await Promise.all([
      bundle.write({ file: dir.file('dist/a.mjs'), format: 'es' }),
      bundle.write({ file: dir.file('dist/a.cjs'), format: 'cjs' }),
    ]);
    await bundle.close();
    return server.take().sort();
  };
  assert.equal(await build(), []);
  assert.equal(await build(), []);
  dir.write('src/part.js', 'export const part = 2;\n');
  assert.equal(await build(), [
    ['reload', ['/dist/a.cjs']],
    ['reload', ['/dist/a.mjs']],
  ]);
});

test("rollup() takes no part in Vite's own dev server", () => {
  assert.is(rollup(recorder()).apply, 'build');
});

test.run();
