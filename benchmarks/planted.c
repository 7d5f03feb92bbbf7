// SPDX-License-Identifier: GPL-2.0
/* Bugs for bootmatrix' benchmark `planted`: planted=NAME sets one off in an initcall, /sys/kernel/planted/bug later. */
#include <linux/bug.h>
#include <linux/completion.h>
#include <linux/init.h>
#include <linux/irqflags.h>
#include <linux/kobject.h>
#include <linux/mutex.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <asm/processor.h>

static char planted_name[32];
static int *planted_null;
static DEFINE_MUTEX(planted_a);
static DEFINE_MUTEX(planted_b);
static DECLARE_COMPLETION(planted_never);

static int __init planted_setup(char *name)
{
	strscpy(planted_name, name, sizeof(planted_name));
	return 1;
}
__setup("planted=", planted_setup);

static noinline void planted_bug(void)
{
	BUG();
}

static noinline void planted_dereference(void)
{
	WRITE_ONCE(*planted_null, 1);
}

static noinline void planted_warn(void)
{
	WARN_ON(1);
}

static noinline void planted_deadlock(void)
{
	mutex_lock(&planted_a);
	mutex_lock(&planted_b);
	mutex_unlock(&planted_b);
	mutex_unlock(&planted_a);
	mutex_lock(&planted_b);
	mutex_lock(&planted_a);
	mutex_unlock(&planted_a);
	mutex_unlock(&planted_b);
}

static noinline void planted_wait(void)
{
	wait_for_completion(&planted_never);
}

static noinline void planted_spin(void)
{
	local_irq_disable();
	for (;;)
		cpu_relax();
}

static const struct {
	const char *name;
	void (*run)(void);
} planted_bugs[] = {
	{ "bug", planted_bug }, { "null", planted_dereference }, { "warn", planted_warn },
	{ "lockdep", planted_deadlock }, { "wait", planted_wait }, { "irqs-off", planted_spin },
};

static void planted_run(const char *name)
{
	int i;

	for (i = 0; i < ARRAY_SIZE(planted_bugs); i++)
		if (sysfs_streq(name, planted_bugs[i].name))
			planted_bugs[i].run();
}

static ssize_t bug_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf, size_t count)
{
	planted_run(buf);
	return count;
}

static struct kobj_attribute planted_attribute = __ATTR_WO(bug);

static int __init planted_init(void)
{
	struct kobject *folder = kobject_create_and_add("planted", kernel_kobj);

	planted_run(planted_name);
	return folder ? sysfs_create_file(folder, &planted_attribute.attr) : -ENOMEM;
}
late_initcall(planted_init);
