// How loud a video is: as a person has set it, quieter while somebody may be interrupting, mute where its sound is void.

const DUCKED = 0.2;
const LOOK_MS = 20;

export class Loudness {
    #video;
    #volume; // a person's
    #set; // ours
    #ducked = false;
    #void = null; // [from, until] in seconds of the video
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
        this.#apply();
    }

    /** Somebody begins to talk, or does not after all. */
    duck(on) {
        this.#ducked = on;
        this.#apply();
    }

    /** Somebody has interrupted: what is said between two times of the video is not meant any more. */
    silence(from, until) {
        this.#ducked = false;
        this.#void = [Math.min(from, this.#void?.[0] ?? from), until];
        this.#apply();
    }

    #apply() {
        clearTimeout(this.#timer);
        const { currentTime } = this.#video;
        if (this.#void && currentTime >= this.#void[1]) this.#void = null;
        const mute = this.#void && currentTime >= this.#void[0];
        this.#set = this.#volume * (mute ? 0 : this.#ducked ? DUCKED : 1);
        if (this.#video.volume !== this.#set) this.#video.volume = this.#set;
        this.#set = this.#video.volume; // as the browser rounds it
        if (this.#void) this.#timer = setTimeout(() => this.#apply(), LOOK_MS);
    }
}
