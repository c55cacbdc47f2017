// Checks with a deadline each, one line for each, and the line that counts them.

const PATIENCE = 60_000;

export class Tally {
  passed = 0;
  failed = 0;

  /** Runs a check that gets a signal of its deadline, and gives what it returns; a check that throws has failed. */
  async check(name, act, patience = PATIENCE) {
    const signal = AbortSignal.timeout(patience);
    const late = new Promise((_, fail) => {
      signal.addEventListener("abort", () => fail(new Error(`not within ${patience / 1_000} s`)));
    });
    try {
      const value = await Promise.race([Promise.resolve(signal).then(act), late]);
      this.passed += 1;
      console.log(`ok: ${name}`);
      return value;
    } catch (error) {
      this.failed += 1;
      console.log(`not so: ${name}: ${error.message}`);
      return undefined;
    }
  }

  /** A check on which all that follow rest: where it fails, the program ends. */
  async need(name, act) {
    const failed = this.failed;
    const value = await this.check(name, act);
    if (this.failed > failed) process.exit(this.end());
    return value;
  }

  /** Says how many there were, and gives the exit code. */
  end() {
    console.log(`${this.passed} passed, ${this.failed} failed, 0 skipped`);
    return this.failed === 0 && this.passed > 0 ? 0 : 1;
  }
}

export function demand(what, isSo) {
  if (!isSo) throw new Error(`not so: ${what}`);
}
