/**
 * Runs a TURN server on 127.0.0.1. RELAY_BINARY names the binary; without it, the
 * binary is built from this checkout.
 */

import {execFileSync, spawn} from 'node:child_process';
import {once} from 'node:events';
import {mkdtempSync, rmSync, writeFileSync} from 'node:fs';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {fileURLToPath} from 'node:url';
import {freePort} from './server.js';

const module = fileURLToPath(new URL('../..', import.meta.url));

/** Relay can be restarted at the same address. A restarted relay has lost its allocations. */
export class Relay {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process;
  #directory = mkdtempSync(join(tmpdir(), 'inbox-relay-'));
  #address = '';
  #binary;

  constructor() {
    this.#binary = process.env.RELAY_BINARY ?? join(this.#directory, 'relay');
    if (!process.env.RELAY_BINARY) execFileSync('go', ['build', '-o', this.#binary, './relay'], {cwd: module, stdio: 'inherit'});
  }

  /**
   * Returns the flags with which an inbox server lists this relay, and no other.
   * @param {'udp'|'tcp'} transport
   */
  serverFlags(transport) {
    const file = join(this.#directory, 'ice.json');
    writeFileSync(file, JSON.stringify([{urls: [`turn:${this.#address}?transport=${transport}`], username: 'user', credential: 'secret'}]));
    return ['-turn', 'off', '-ice-servers', file];
  }

  /** Starts the relay if it is not running. */
  async start() {
    if (this.#running) return;
    this.#address ||= `127.0.0.1:${await freePort()}`;
    const child = spawn(this.#binary, ['-bind', this.#address], {stdio: ['ignore', 'pipe', 'inherit']});
    this.#process = child;
    process.once('exit', () => child.kill('SIGKILL')); // a test that times out runs no cleanup
    await new Promise((resolve, reject) => {
      child.stdout.once('data', resolve);
      child.once('exit', code => reject(new Error(`the relay exited with ${code}`)));
    });
  }

  async stop() {
    const child = this.#running;
    if (!child) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  get #running() {
    return this.#process?.exitCode === null && this.#process.signalCode === null ? this.#process : null;
  }

  async remove() {
    await this.stop();
    rmSync(this.#directory, {recursive: true});
  }
}
