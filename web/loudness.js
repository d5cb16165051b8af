// How loud a video is: as a person has set it, quieter while somebody begins to talk, mute where its sound is void.

const DUCKED = 0.2;
const LOOK_MS = 20;

export class Loudness {
    #video;
    #volume; // a person's
    #set; // ours
    #ducked = false;
    #void = null; // [from, until] in seconds of the video; until is null while that block is not made
    #made = 0; // seconds
    #timer = 0;

    constructor(video) {
        this.#video = video;
        this.#volume = this.#set = video.volume;
        video.addEventListener("volumechange", () => {
            if (video.volume !== this.#set) this.#volume = this.#set = video.volume;
        });
    }

    /** Another video is shown. */
    reset() {
        this.#ducked = false;
        this.#void = null;
        this.#made = 0;
        this.#apply();
    }

    /** What the server tells of the stream. */
    follow({ frames, fps }) {
        const made = frames / fps;
        // What was begun before the interruption is one block.
        if (this.#void && this.#void[1] === null && made > this.#made) this.#void[1] = made;
        this.#made = made;
    }

    /** Somebody begins to talk, or does not after all. */
    duck(on) {
        this.#ducked = on;
        this.#apply();
    }

    /** The sound from `seconds` on is not meant any more; what is made from now on is. */
    silence(seconds) {
        this.#ducked = false;
        this.#void = [Math.min(seconds, this.#void?.[0] ?? seconds), null];
        this.#apply();
    }

    #apply() {
        const { currentTime } = this.#video;
        clearTimeout(this.#timer);
        if (this.#void && this.#void[1] !== null && currentTime >= this.#void[1]) this.#void = null;
        const mute = this.#void && currentTime >= this.#void[0];
        this.#set = this.#volume * (mute ? 0 : this.#ducked ? DUCKED : 1);
        if (this.#video.volume !== this.#set) this.#video.volume = this.#set;
        this.#set = this.#video.volume; // as the browser keeps it
        if (this.#void) this.#timer = setTimeout(() => this.#apply(), LOOK_MS);
    }
}
