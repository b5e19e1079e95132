// A build tool → controls: after each good build the pages hear of the outputs that changed, and of an error otherwise.
// Plugins for esbuild, and for Rollup, Rolldown and Vite in watch mode; of the tools only the shape is known here.

import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { toPath } from './events.ts';

/** What a plugin needs of the server: `start()` and `live()` give it. */
export interface Controls {
  reload(paths?: readonly string[]): void;
  css(path?: string): void;
  error?(error: unknown): void;
  /** The folder served: outputs in it are told by their URL paths. Without it, every page is told. */
  readonly root?: string;
}

/** Content of an output, as something to compare it by. */
type Digest = string;

/** What a build came to. Builds are compared with the one before of the same key. */
interface Builds {
  good(key: string, outputs: ReadonlyMap<string, Digest>): void;
  bad(error: unknown): void;
}

function follow(server: Controls): Builds {
  const known = new Map<string, ReadonlyMap<string, Digest>>();
  let failed: unknown;
  return {
    good(key, outputs) {
      const before = known.get(key);
      const wasFailed = failed !== undefined;
      known.set(key, outputs);
      failed = undefined;
      const changes = before && compare(before, outputs);
      if (changes && changes.length > 0) announce(server, changes);
      // The pages show an error, though their files are as they were, or were never there.
      else if (wasFailed) server.reload();
    },
    bad(error) {
      // Rollup tells some errors twice, once for each output.
      if (error === failed) return;
      failed = error;
      server.error?.(error);
    },
  };
}

interface Output {
  readonly file: string;
  readonly gone: boolean;
}

function compare(before: ReadonlyMap<string, Digest>, after: ReadonlyMap<string, Digest>): Output[] {
  const changed = [...after].filter(([file, digest]) => before.get(file) !== digest);
  const gone = [...before].filter(([file]) => !after.has(file));
  // Names with a hash: the page uses the one that is gone, the one that is there is new to it.
  return [
    ...changed.map(([file]) => ({ file, gone: false })),
    ...gone.map(([file]) => ({ file, gone: true })),
  ];
}

function announce(server: Controls, outputs: readonly Output[]): void {
  const { root } = server;
  const told = root === undefined ? [] : outputs.map(({ file }) => toOwnPath(resolve(root), file));
  const paths = told.filter((path) => path !== undefined);
  const isExact = paths.length === outputs.length;
  if (!outputs.every(({ file, gone }) => /\.css$/i.test(file) && !gone)) {
    server.reload(isExact ? paths : undefined);
  } else if (isExact) {
    for (const path of paths) server.css(path);
  } else {
    server.css();
  }
}

function toOwnPath(root: string, file: string): string | undefined {
  return toPath(root, file, sep) ?? toPath(real(root), join(real(dirname(file)), basename(file)), sep);
}

function real(folder: string): string {
  try {
    return realpathSync(folder);
  } catch {
    return folder; // it went away meanwhile
  }
}

/** A map changes with its source, and no page shows it. */
const isShown = (file: string) => !file.endsWith('.map');

const digest = (content: string | Uint8Array): Digest => createHash('sha1').update(content).digest('base64');

async function digestFiles(files: readonly string[]): Promise<Map<string, Digest>> {
  const digests = await Promise.all(
    files.filter(isShown).map(async (file): Promise<[string, Digest]> => {
      // An output that cannot be read has gone again: an empty one, to the pages.
      return [file, digest(await readFile(file).catch(() => ''))];
    }),
  );
  return new Map(digests);
}

/** The part of esbuild's `BuildResult` that is looked at. */
interface EsbuildResult {
  readonly errors: readonly unknown[];
  readonly outputFiles?: readonly { readonly path: string; readonly hash: string }[] | undefined;
  readonly metafile?: { readonly outputs: object } | undefined;
}

/** The part of esbuild's `PluginBuild` that is used. */
interface EsbuildBuild {
  readonly initialOptions: { metafile?: boolean; write?: boolean; absWorkingDir?: string };
  onEnd(callback: (result: EsbuildResult) => Promise<void>): void;
}

/** A plugin as esbuild takes it. */
export interface EsbuildPlugin {
  readonly name: string;
  setup(build: EsbuildBuild): void;
}

/**
 * A plugin for esbuild: `plugins: [esbuild(server)]`, last of them, in a context that watches or rebuilds.
 * The first good build says nothing, each later one `css` or `reload` for the outputs that it changed, a failed one
 * `error`. It switches esbuild's `metafile` on.
 */
export function esbuild(server: Controls): EsbuildPlugin {
  return {
    name: 'live-sse',
    setup(build) {
      const { initialOptions } = build;
      const builds = follow(server);
      const folder = initialOptions.absWorkingDir ?? process.cwd();
      initialOptions.metafile = true;
      build.onEnd(async (result) => {
        if (result.errors.length > 0) builds.bad(buildFailure(result.errors));
        else builds.good('', await digestsOf(result, folder));
      });
    },
  };
}

async function digestsOf(
  { outputFiles, metafile }: EsbuildResult,
  folder: string,
): Promise<Map<string, Digest>> {
  if (outputFiles) {
    return new Map(outputFiles.filter(({ path }) => isShown(path)).map(({ path, hash }) => [path, hash]));
  }
  return digestFiles(Object.keys(metafile?.outputs ?? {}).map((file) => resolve(folder, file)));
}

/** What esbuild's own `build()` would throw. */
function buildFailure(errors: readonly unknown[]): Error & { errors: readonly unknown[] } {
  const count = errors.length === 1 ? '1 error' : `${errors.length} errors`;
  return Object.assign(new Error(`Build failed with ${count}`), { errors });
}

/** The part of Rollup's `NormalizedOutputOptions` that is looked at. */
interface RollupOutputOptions {
  readonly dir?: string | undefined;
  readonly file?: string | undefined;
  readonly format?: string | undefined;
}

/** A plugin as Rollup, Rolldown and Vite take it. */
export interface RollupPlugin {
  readonly name: string;
  /** For Vite: its own dev server has no outputs. */
  readonly apply: 'build';
  buildEnd(error?: Error): void;
  renderError(error?: Error): void;
  writeBundle(options: RollupOutputOptions, bundle: object): Promise<void>;
}

/**
 * A plugin for Rollup, Rolldown and Vite in watch mode: `plugins: [rollup(server)]`, last of them.
 * The first good build says nothing, each later one `css` or `reload` for the outputs that it changed, a failed one
 * `error`. With several outputs each speaks for itself.
 */
export function rollup(server: Controls): RollupPlugin {
  const builds = follow(server);
  const bad = (error?: Error) => {
    if (error) builds.bad(error);
  };
  return {
    name: 'live-sse',
    apply: 'build',
    buildEnd: bad,
    renderError: bad,
    async writeBundle({ dir, file, format }, bundle) {
      const folder = resolve(dir ?? dirname(file ?? ''));
      const names = Object.keys(bundle);
      const outputs = await digestFiles(names.map((name) => join(folder, name)));
      builds.good([folder, file, format].join('\0'), outputs);
    },
  };
}
