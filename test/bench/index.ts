// `npm run bench -- [scenario …] [--rounds n] [--peers a,b]`: measures live-sse beside other servers, prints it, and notes it in
// results.json and the README. Scenarios that are not asked for keep the numbers they had.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, release, totalmem } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import type { Bench } from './bench.ts';
import { footprint } from './footprint.ts';
import { clients, load } from './load.ts';
import { installPeers, isInstalled, PEERS, type Peer } from './peers.ts';
import { merge, pixels, tabs } from './pixels.ts';
import { fiftyThousand, start, tenThousand } from './start.ts';
import { type Measures, type Results, readmeTable, report, summarise } from './table.ts';
import { checkout, wire } from './wire.ts';

const SCENARIOS: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  start,
  '10000': tenThousand,
  '50000': fiftyThousand,
  wire,
  checkout,
  pixels,
  merge,
  tabs,
  load,
  clients,
  footprint,
};

const root = fileURLToPath(new URL('../..', import.meta.url));
const resultsFile = fileURLToPath(new URL('results.json', import.meta.url));

interface Wanted {
  readonly scenarios: readonly string[];
  readonly rounds: number | undefined;
  readonly peers: readonly Peer[];
}

/** What the command line asks for. @throws {RangeError} if it cannot be understood */
function parse(argv: readonly string[]): Wanted {
  const { values, positionals } = parseArgs({
    args: [...argv],
    options: { rounds: { type: 'string' }, peers: { type: 'string' } },
    allowPositionals: true,
  });
  const unknown = positionals.find((name) => !(name in SCENARIOS));
  if (unknown !== undefined) {
    throw new RangeError(`Unknown scenario "${unknown}": there are ${Object.keys(SCENARIOS).join(', ')}`);
  }
  if (values.rounds !== undefined && !/^[1-9]\d*$/.test(values.rounds)) {
    throw new RangeError(`--rounds "${values.rounds}" is no number of rounds: give 1 or more`);
  }
  const names = values.peers?.split(',') ?? PEERS.map(({ name }) => name);
  const stranger = names.find((name) => PEERS.every((peer) => peer.name !== name));
  if (stranger !== undefined) {
    throw new RangeError(
      `Unknown server "${stranger}": there are ${PEERS.map(({ name }) => name).join(', ')}`,
    );
  }
  return {
    scenarios: positionals.length > 0 ? positionals : Object.keys(SCENARIOS),
    rounds: values.rounds === undefined ? undefined : Number(values.rounds),
    peers: PEERS.filter(({ name }) => names.includes(name)),
  };
}

async function run({ scenarios, rounds, peers: asked }: Wanted): Promise<void> {
  execFileSync('npm', ['run', 'build', '--silent'], { cwd: root, stdio: ['ignore', 'ignore', 'inherit'] });
  installPeers();
  const missing = asked.filter((peer) => !isInstalled(peer));
  for (const { name, version } of missing) console.log(`${name} ${version} cannot be installed: left out`);
  const peers = asked.filter((peer) => !missing.includes(peer));
  const values: Record<string, Record<string, number[]>> = {};
  const bench: Bench = {
    peers,
    rounds: (byDefault) => rounds ?? byDefault,
    say: (text) => console.log(`  ${text}`),
    record: (measure, { name }, value) => {
      values[measure] ??= {};
      values[measure][name] ??= [];
      values[measure][name].push(value);
    },
  };
  for (const name of scenarios) {
    const begin = performance.now();
    console.log(`${name} …`);
    try {
      await SCENARIOS[name]?.(bench);
    } catch (error) {
      console.log(`  ${name} was broken off: ${error instanceof Error ? error.message : error}`);
    }
    console.log(`  ${((performance.now() - begin) / 1000).toFixed(0)} s`);
    note(summarise(values));
  }
  console.log(`\n${report(note({}))}`);
}

/** Adds to the numbers there are, in results.json and the README: a run that is broken off leaves what it has. */
function note(measures: Measures): Results {
  const results: Results = {
    machine: machine(),
    versions: Object.fromEntries(PEERS.map(({ name, version }) => [name, version])),
    measures: { ...former(), ...measures },
  };
  writeFileSync(resultsFile, `${JSON.stringify(results, null, 2)}\n`);
  writeReadme(results);
  return results;
}

function machine(): Results['machine'] {
  const [cpu] = cpus();
  return {
    cpu: cpu?.model ?? 'unknown',
    cores: cpus().length,
    memoryGB: Math.round(totalmem() / 2 ** 30),
    os: `${process.platform} ${release()}`,
    node: process.versions.node,
  };
}

function former(): Measures {
  if (!existsSync(resultsFile)) return {};
  return (JSON.parse(readFileSync(resultsFile, 'utf8')) as Results).measures;
}

function writeReadme(results: Results): void {
  const file = `${root}/README.md`;
  const text = readFileSync(file, 'utf8');
  const table = `<!-- bench -->\n${readmeTable(results)}\n<!-- /bench -->`;
  writeFileSync(
    file,
    text.replace(/<!-- bench -->[\s\S]*<!-- \/bench -->/, () => table),
  );
}

let wanted: Wanted | undefined;
try {
  wanted = parse(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 2;
}
// Servers that still run are ended as the program exits.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
if (wanted) await run(wanted);
