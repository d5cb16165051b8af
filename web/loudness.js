// How loud a video is: as a person has set it, and mute while somebody may be interrupting or its sound is void.

const LOOK_MS = 20;
const SUSPECT_MS = 300; // in which the server says whether somebody is interrupting

export class Loudness {
    #video;
    #position; // how many seconds of the video were shown
    #volume; // a person's
    #set; // ours
    #ducked = false;
    #suspected = 0; // the timer of a suspicion
    #until = 0; // the sound before this second of the video is void
    #timer = 0;

    constructor(video, position) {
        this.#video = video;
        this.#position = position;
        this.#volume = this.#set = video.volume;
        video.addEventListener("volumechange", () => {
            if (video.volume !== this.#set) this.#volume = this.#set = video.volume;
        });
    }

    /** Another video is shown. */
    reset() {
        this.#until = 0;
        this.duck(false);
    }

    /** Somebody seems to begin to talk: be mute until the server has had the time to say so. `wrong` is called if it has
     *  not. */
    suspect(wrong) {
        clearTimeout(this.#suspected);
        this.#suspected = setTimeout(() => {
            this.#suspected = 0;
            this.#apply();
            if (!this.#ducked && !this.#until) wrong();
        }, SUSPECT_MS);
        this.#apply();
    }

    /** Somebody begins to talk, or does not after all. */
    duck(on) {
        this.#ducked = on;
        this.#end();
    }

    /** Somebody has interrupted: what is said until then is not meant any more. */
    silence(until) {
        this.#until = until;
        this.duck(false);
    }

    /** The server has said what it thinks of a suspicion. */
    #end() {
        clearTimeout(this.#suspected);
        this.#suspected = 0;
        this.#apply();
    }

    #apply() {
        clearTimeout(this.#timer);
        if (this.#position() >= this.#until) this.#until = 0;
        this.#set = this.#until || this.#ducked || this.#suspected ? 0 : this.#volume;
        if (this.#video.volume !== this.#set) this.#video.volume = this.#set;
        this.#set = this.#video.volume; // as the browser rounds it
        if (this.#until) this.#timer = setTimeout(() => this.#apply(), LOOK_MS);
    }
}
