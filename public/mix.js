/** Mixes several sounds into one track, because a call has one audio track. */

/** SoundMixer has one output at a time. */
export class SoundMixer {
  /** @type {AudioContext | null} */
  #context = null;
  /** @type {MediaStreamTrack[]} */
  #tracks = [];
  /** @type {MediaStreamTrack | null} */
  #output = null;

  /**
   * Returns a track with the sound of the given tracks, the same one until they
   * change. A browser without Web Audio gets the first track.
   * @param {MediaStreamTrack[]} tracks at least one
   */
  mix(tracks) {
    if (this.#output && tracks.length === this.#tracks.length && tracks.every((track, i) => track === this.#tracks[i])) {
      return this.#output;
    }
    this.close();
    if (typeof AudioContext !== 'function') return tracks[0];
    const context = new AudioContext();
    const destination = context.createMediaStreamDestination();
    for (const track of tracks) context.createMediaStreamSource(new MediaStream([track])).connect(destination);
    void context.resume(); // a mix begins in the handler of a press
    this.#context = context;
    this.#tracks = tracks;
    return this.#output = destination.stream.getAudioTracks()[0];
  }

  /** Ends the output. */
  close() {
    void this.#context?.close();
    this.#output?.stop();
    this.#context = this.#output = null;
    this.#tracks = [];
  }
}
