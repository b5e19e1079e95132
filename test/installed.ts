// The package, packed and installed into an empty folder as users have it, and programs run there.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { cpSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { transform } from 'esbuild';
import { type Folder, folder, until, within } from './harness.ts';

const repository = fileURLToPath(new URL('..', import.meta.url));

export interface Installed extends Folder {
  /** The names of the files in the package. */
  readonly packed: readonly string[];
}

/** Packs a copy of the repository (so that nothing else sees its build) and installs that into an empty folder. */
export async function installed(): Promise<Installed> {
  using copy = checkout();
  npm(['pack'], copy.path);
  const tarball = readdirSync(copy.path).find((name) => name.endsWith('.tgz')) ?? 'nothing packed';
  const names = execFileSync('tar', ['-tzf', copy.file(tarball)], { encoding: 'utf8' })
    .trim()
    .split('\n');
  const home = folder({ 'package.json': '{ "private": true, "type": "module" }' });
  try {
    npm(['install', '--prefer-offline', '--no-audit', '--no-fund', copy.file(tarball)], home.path);
  } catch (error) {
    home[Symbol.dispose]();
    throw error;
  }
  return { ...home, packed: names.map((name) => name.replace(/^package\//, '')) };
}

/** A copy of the repository's files, with the packages it has installed. */
export function checkout(): Folder {
  const copy = folder({});
  const files = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], {
    cwd: repository,
    encoding: 'utf8',
  });
  for (const name of files.trim().split('\n')) {
    cpSync(`${repository}/${name}`, copy.file(name), { recursive: true, force: true });
  }
  symlinkSync(`${repository}/node_modules`, copy.file('node_modules'));
  return {
    ...copy,
    [Symbol.dispose]: () => {
      rmSync(copy.file('node_modules'));
      copy[Symbol.dispose]();
    },
  };
}

function npm(args: readonly string[], cwd: string): string {
  return execFileSync('npm', [...args], { cwd, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] }); // what it complains of is in the error
}

export interface Program extends Disposable {
  readonly child: ChildProcess;
  /** Everything it printed so far. */
  readonly printed: () => string;
  /** The first address it prints. */
  url(): Promise<string>;
  /** Everything it printed, once it has ended by itself. */
  output(): Promise<string>;
}

/** Runs a command with all the processes it starts, until the `using` block ends. */
export function runProgram(command: string, args: readonly string[], cwd: string): Program {
  const env = { ...process.env, npm_config_update_notifier: 'false' }; // npm's own news would be among the output
  const child = spawn(command, args, { cwd, env, detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
  let printed = '';
  const collect = (chunk: Buffer) => {
    printed += chunk;
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  const ended = new Promise<string>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve(printed));
  });
  ended.catch(() => {}); // told to those who wait for it
  return {
    child,
    printed: () => printed,
    url: () => until(`an address in ${printed}`, () => /http:\/\/[\w.[\]:]+\//.exec(printed)?.[0], 60_000),
    output: () => within('the program to end', ended, 60_000),
    [Symbol.dispose]: () => {
      try {
        if (child.pid) process.kill(-child.pid, 'SIGKILL');
      } catch {} // it has ended already
    },
  };
}

/** The commands and snippets in a text of Markdown. */
export function blocksOf(markdown: string): { readonly language: string; readonly code: string }[] {
  return [...markdown.matchAll(/^```(sh|js)\n([\s\S]*?)^```$/gm)].map(([, language = '', code = '']) => ({
    language,
    code,
  }));
}

/** A snippet as TypeScript and bundlers make it, for a Node without `await using`. */
export async function runnable(code: string): Promise<string> {
  return (await transform(code, { target: 'node20', format: 'esm' })).code;
}
