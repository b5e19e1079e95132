// The programs of the browser tests: where they are, and how a machine without them gets them.

import { execFileSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** A program that is needed: its names, the distribution's package, the variable that names another one. */
export interface Program {
  readonly title: string;
  readonly names: readonly string[];
  readonly debian: string;
  readonly variable: string;
}

/** The installed one: what the variable names, or the first on the PATH. */
function find(program: Program): string | undefined {
  const named = process.env[program.variable];
  if (named) return named;
  const dirs = (process.env.PATH ?? '').split(delimiter).filter(Boolean);
  return dirs.flatMap((dir) => program.names.map((name) => join(dir, name))).find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false; // not there, or not to be run: the next one may be
  }
}

/** Finds a program, or installs the distribution's where that can be done without asking; else throws what to do. */
export function provide(program: Program): string {
  const found = find(program);
  if (found) return found;
  const { title, debian, variable } = program;
  const hint = `Install it (Debian, Ubuntu: apt-get install ${debian}), or set ${variable} to an executable`;
  if (process.getuid?.() !== 0 || !isExecutable('/usr/bin/apt-get')) {
    throw new Error(`The browser tests need ${title}, which is not on this machine. ${hint}`);
  }
  console.log(`Installing ${title} for the browser tests …`);
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  const apt = (...args: string[]) =>
    execFileSync('apt-get', ['-qq', ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] });
  apt('update');
  apt('install', '-y', '--no-install-recommends', debian);
  const installed = find(program);
  if (!installed) throw new Error(`apt-get installed ${debian}, but it is not on the PATH. ${hint}`);
  return installed;
}
