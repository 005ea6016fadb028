/**
 * Builds the npm package inbox-client in a directory: the modules that the server embeds, their
 * types, a classic script with all of them, and the files of public/npm. scripts/npm-package
 * runs this file.
 */

import {execFileSync} from 'node:child_process';
import {copyFileSync, mkdirSync, readFileSync, writeFileSync} from 'node:fs';
import {join} from 'node:path';
import {fileURLToPath, pathToFileURL} from 'node:url';
import {build} from 'esbuild';
import {publicURL} from './html.js';

const publicPath = fileURLToPath(publicURL);
const manifest = join(publicPath, 'npm', 'package.json');
const tsc = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));

/** The modules that the package exports, as paths below public. @returns {string[]} */
function entryPoints() {
  const {exports} = JSON.parse(readFileSync(manifest, 'utf8'));
  return Object.values(exports).map(target => target.default).filter(path => path !== './global.js');
}

/** Returns the names of all modules of the package. */
export async function packageModules() {
  const {metafile} = await build({absWorkingDir: publicPath, entryPoints: entryPoints(), bundle: true, write: false, metafile: true, format: 'esm', outdir: 'out'});
  return Object.keys(metafile.inputs).sort();
}

/** @param {string} directory */
export async function buildPackage(directory) {
  mkdirSync(directory, {recursive: true});
  for (const name of await packageModules()) copyFileSync(join(publicPath, name), join(directory, name));
  for (const name of ['package.json', 'README.md']) copyFileSync(join(publicPath, 'npm', name), join(directory, name));
  copyFileSync(join(publicPath, '..', 'LICENSE'), join(directory, 'LICENSE'));
  await writeGlobal(directory);
  writeTypes(directory);
}

/** Writes the classic script, whose global is InboxClient. @param {string} directory */
async function writeGlobal(directory) {
  const contents = ['connect', 'peer', 'stream-inbox', 'channel-call', 'watched-peer', 'data-channel', 'seal'].map(name => `export * from './${name}.js';`).join('\n');
  const {outputFiles} = await build({
    stdin: {contents, resolveDir: publicPath}, bundle: true, write: false, minify: true, format: 'iife', globalName: 'InboxClient',
    target: 'es2022', charset: 'utf8',
  });
  writeFileSync(join(directory, 'global.js'), outputFiles[0].contents);
}

/** Generates the types from the comments of the modules. @param {string} directory */
function writeTypes(directory) {
  const options = {
    allowJs: true, checkJs: true, strict: true, declaration: true, emitDeclarationOnly: true, stripInternal: true, types: [],
    target: 'es2022', module: 'es2022', moduleResolution: 'bundler', lib: ['es2023', 'dom', 'dom.iterable'],
    rootDir: publicPath, outDir: directory,
  };
  const config = join(directory, 'tsconfig.types.json');
  writeFileSync(config, JSON.stringify({compilerOptions: options, files: entryPoints().map(path => join(publicPath, path))}));
  execFileSync(process.execPath, [tsc, '-p', config], {stdio: 'inherit'});
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await buildPackage(process.argv[2]);
