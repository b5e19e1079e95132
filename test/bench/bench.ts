// What the scenarios share: who takes part, in which order, and where the numbers go.

import { type Peer, type Running, startPeer } from './peers.ts';

export interface Bench {
  readonly peers: readonly Peer[];
  /** Notes one value of a measure; its median and the rest come from all of them. */
  record(measure: string, peer: Peer, value: number): void;
  /** So many rounds, or as many as the command line asks for. */
  rounds(byDefault: number): number;
  say(text: string): void;
}

/** The peers in the order of this round: A B C, B C A, … so that nobody always goes first. */
export function turns<Item>(items: readonly Item[], round: number): readonly Item[] {
  const first = items.length > 0 ? round % items.length : 0;
  return [...items.slice(first), ...items.slice(0, first)];
}

/** Starts one server, lets it be measured and ends it; one that fails is named and left out. */
export async function withServer(
  bench: Bench,
  [peer, folder]: readonly [Peer, string],
  measure: (server: Running) => Promise<void>,
): Promise<void> {
  try {
    await using server = await startPeer(peer, folder);
    await measure(server);
  } catch (error) {
    bench.say(`${peer.name}: left out here: ${error instanceof Error ? error.message : error}`);
  }
}

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
