// `npm test`: provides what the tests need, then runs every *.test.ts file (or those whose path holds an argument
// given) in a process of its own, two at a time, and closes with the count of tests.
//
// --engine=firefox,webkit runs the browser's files in these engines instead; --nodes runs the others with other Nodes;
// --all runs everything: npm test, then both.

import { execFileSync, spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CANNOT, ENGINES, type EngineName, isEngine, provide } from './browser/engine.ts';
import { type InstalledNode, installNodes } from './nodes.ts';

/** Milliseconds after which a file that still runs has failed: it waits for something that never comes. */
const FILE_LIMIT = 600_000;

const root = fileURLToPath(new URL('..', import.meta.url));

/** A file that is run, and with what. */
interface Job {
  readonly file: string;
  /** What is not the usual about it, for the line it gets: `firefox`. */
  readonly label?: string;
  readonly node?: string;
  readonly env?: NodeJS.ProcessEnv;
}

interface Result {
  readonly passed: number;
  readonly failed: number;
  /** Cases that an engine cannot do, each with the engine and the reason. */
  readonly declared: readonly string[];
}

const { values, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { engine: { type: 'string' }, nodes: { type: 'boolean' }, all: { type: 'boolean' } },
});

function testFiles(): string[] {
  const names = readdirSync(join(root, 'test'), { recursive: true, encoding: 'utf8' });
  const files = names.filter((name) => name.endsWith('.test.ts') && !name.includes('node_modules'));
  const chosen = files
    .map((name) => join('test', name))
    .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)));
  // The long ones first, so that none is left running alone at the end.
  return chosen.sort(
    (a, b) => Number(b.includes('browser')) - Number(a.includes('browser')) || a.localeCompare(b),
  );
}

function enginesAsked(): readonly EngineName[] {
  if (values.all) return ENGINES;
  const names = values.engine?.split(',') ?? (values.nodes ? [] : ['chromium']);
  const unknown = names.find((name) => !isEngine(name));
  if (unknown !== undefined) {
    throw new RangeError(`Unknown engine "${unknown}": they are ${ENGINES.join(', ')}`);
  }
  return names.filter(isEngine);
}

const inBrowser = (file: string) => file.startsWith(join('test', 'browser'));

/** The tests of the page in other engines; for Chromium they are the usual ones. */
function engineJobs(name: EngineName, files: readonly string[]): Job[] {
  return files.filter(inBrowser).map((file) => ({ file, label: name, env: { ENGINE: name } }));
}

/** The tests of the server; those of the browser, of tools and of the README have one Node's worth to say. */
function nodeJobs({ version, path }: InstalledNode, files: readonly string[]): Job[] {
  const server = files.filter((file) => !inBrowser(file) && !/readme|package|recipes/.test(file));
  return server.map((file) => ({ file, label: `Node ${version}`, node: path, env: { ROUNDS: '5' } }));
}

function jobs(engines: readonly EngineName[], nodes: readonly InstalledNode[]): Job[] {
  const files = testFiles();
  const usual = values.all || (!values.engine && !values.nodes);
  return [
    ...(usual ? files.map((file) => ({ file })) : []),
    ...engines.filter((name) => !usual || name !== 'chromium').flatMap((name) => engineJobs(name, files)),
    ...nodes.flatMap((node) => nodeJobs(node, files)),
  ];
}

function runFile({ file, label, node = process.execPath, env }: Job): Promise<Result> {
  const title = label ? `${file} in ${label}` : file;
  return new Promise((resolve) => {
    // A group of its own, so that a file that hangs takes its browsers with it.
    const detached = process.platform !== 'win32';
    const child = spawn(node, ['--import', 'tsx', file], {
      cwd: root,
      env: { ...process.env, ...env, FORCE_COLOR: '0' },
      detached,
    });
    let output = '';
    const collect = (chunk: Buffer) => {
      output += chunk;
    };
    child.stdout.on('data', collect);
    child.stderr.on('data', collect);
    const timer = setTimeout(() => {
      output += `\nStill running after ${FILE_LIMIT / 1000} s: ended\n`;
      if (detached && child.pid) process.kill(-child.pid, 'SIGKILL');
      else child.kill('SIGKILL');
    }, FILE_LIMIT);
    const start = performance.now();
    child.on('close', (code) => {
      clearTimeout(timer);
      const result = count(output, code);
      const mark = result.failed > 0 ? 'FAILED' : 'ok';
      const declared = result.declared.length > 0 ? `, ${result.declared.length} it cannot do` : '';
      const seconds = Math.round((performance.now() - start) / 1000);
      console.log(
        `${mark.padEnd(7)} ${title}: ${result.passed} passed, ${result.failed} failed${declared}, ${seconds} s`,
      );
      if (result.failed > 0) console.log(output);
      resolve(result);
    });
  });
}

function count(output: string, code: number | null): Result {
  const total = Number(/^ {2}Total: +(\d+)/m.exec(output)?.[1] ?? 0);
  const passed = Number(/^ {2}Passed: +(\d+)/m.exec(output)?.[1] ?? 0);
  const declared = output.match(new RegExp(`^\\w+ ${CANNOT} .*`, 'gm')) ?? [];
  // A file that ends badly without a failed test (a crash, a hang, no test at all) counts as one failure.
  const failed = total - passed || (code === 0 && total + declared.length > 0 ? 0 : 1);
  return { passed, failed, declared };
}

/** Runs all, two at a time; gives their results. */
async function runAll(queue: Job[]): Promise<Result[]> {
  const results: Result[] = [];
  const next = async () => {
    for (let job = queue.shift(); job; job = queue.shift()) results.push(await runFile(job));
  };
  await Promise.all([next(), next()]);
  return results;
}

function report(results: readonly Result[]): void {
  const declared = results.flatMap((result) => result.declared);
  if (declared.length > 0) {
    console.log(
      `\n${declared.length} cases that an engine cannot do, with the reason:\n${declared.join('\n')}`,
    );
  }
  const sum = (key: 'passed' | 'failed') => results.reduce((all, result) => all + result[key], 0);
  console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`);
  process.exitCode = sum('failed') > 0 || results.length === 0 ? 1 : 0;
}

/** Browsers and Nodes, or the end with one line that says what to do. */
function prepare(): Job[] {
  try {
    const engines = enginesAsked();
    for (const name of engines) provide(name);
    return jobs(engines, values.nodes || values.all ? installNodes() : []);
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exit(1);
  }
}

const queue = prepare();
// On Windows npm is a script, which only a shell runs.
const shell = process.platform === 'win32';
execFileSync('npm', ['run', 'build', '--silent'], { cwd: root, stdio: 'inherit', shell });
report(await runAll(queue));
