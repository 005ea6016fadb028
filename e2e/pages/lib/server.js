/**
 * Runs the real server on a free port of 127.0.0.1. INBOX_BINARY names the
 * binary; without it, the binary is built from this checkout.
 */

import {execFileSync, spawn} from 'node:child_process';
import {mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync} from 'node:fs';
import {createServer} from 'node:net';
import {tmpdir} from 'node:os';
import {join} from 'node:path';
import {createInterface} from 'node:readline';
import {fileURLToPath} from 'node:url';

const checkout = fileURLToPath(new URL('../../..', import.meta.url));

/** Server can be stopped and restarted at the same address. */
export class Server {
  /** @type {import('node:child_process').ChildProcess | undefined} */
  #process;
  #directory = mkdtempSync(join(tmpdir(), 'inbox-pages-'));
  #port = 0;
  #flags;
  #host;
  #namespace;
  #binary;

  /**
   * @param {string[]} flags
   * @param {{host?: string, namespace?: string}} [options] host is the address on which the server listens,
   *   namespace the name of a network namespace
   */
  constructor(flags = [], {host = '127.0.0.1', namespace = ''} = {}) {
    this.#flags = flags;
    this.#host = host;
    this.#namespace = namespace;
    this.#binary = process.env.INBOX_BINARY ?? join(this.#directory, 'inbox');
    if (!process.env.INBOX_BINARY) {
      execFileSync('go', ['build', '-o', this.#binary, './cmd/inbox'], {cwd: checkout, stdio: 'inherit'});
    }
  }

  get origin() {
    return `https://localhost:${this.#port}`;
  }

  async start() {
    this.#port ||= await freePort();
    const flags = ['-bind', `${this.#host}:${this.#port}`, '-state', this.#directory, '-public', '', ...this.#flags];
    // An empty working directory, so that the server finds no certificate files.
    const [program, ...args] = [...this.#namespace ? ['ip', 'netns', 'exec', this.#namespace] : [], this.#binary, ...flags];
    this.#process = spawn(program, args, {cwd: this.#directory, stdio: ['ignore', 'ignore', 'pipe']});
    const child = this.#process;
    const kill = () => child.kill('SIGKILL');
    process.once('exit', kill); // a test that times out runs no cleanup
    child.once('exit', () => process.off('exit', kill));
    await untilListening(child);
  }

  /** @param {NodeJS.Signals} signal */
  async stop(signal = 'SIGTERM') {
    const child = this.#process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise(resolve => child.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  /**
   * Makes an invitation to a private server, and returns its token.
   * @param {string} label
   */
  invite(label) {
    return /\binvite_[a-z2-7]{32}\b/.exec(this.#runInvite('-label', label))?.[0] ?? '';
  }

  /** Revokes the invitations of a label. @param {string} label */
  revoke(label) {
    this.#runInvite('-revoke', label);
  }

  /** Lets all invitations expire, and the guest passes with them. */
  expireInvitations() {
    const file = join(this.#directory, 'invitations');
    const stored = JSON.parse(readFileSync(file, 'utf8'));
    const expires = new Date(Date.now() - 3_600_000).toISOString();
    const invitations = stored.invitations.map((/** @type {object} */ one) => ({...one, expires}));
    writeFileSync(`${file}.new`, JSON.stringify({...stored, invitations}), {mode: 0o600});
    renameSync(`${file}.new`, file);
  }

  /** @param {string[]} args */
  #runInvite(...args) {
    return execFileSync(this.#binary, ['invite', ...args, '-state', this.#directory], {cwd: this.#directory, encoding: 'utf8'});
  }

  async remove() {
    await this.stop('SIGKILL');
    rmSync(this.#directory, {recursive: true, force: true}); // it can be removed already
  }
}

/** Returns a TCP port of 127.0.0.1 that is free. @returns {Promise<number>} */
export function freePort() {
  return new Promise((resolve, reject) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
    probe.once('error', reject);
  });
}

/**
 * @param {import('node:child_process').ChildProcess} child
 * @returns {Promise<void>}
 */
function untilListening(child) {
  return new Promise((resolve, reject) => {
    /** @type {string[]} */
    const lines = [];
    const reader = createInterface({input: /** @type {import('node:stream').Readable} */ (child.stderr)});
    reader.on('line', line => {
      lines.push(line);
      if (line.includes('msg=listening')) resolve();
    });
    child.once('exit', code => reject(new Error(`the server exited with ${code}:\n${lines.join('\n')}`)));
  });
}
