/*
 * Licensed under the Apache License, Version 2.0 (the "License"); you may
 * not use this file except in compliance with the License. You may obtain
 * a copy of the License at
 *
 *      http://www.apache.org/licenses/LICENSE-2.0
 *
 * Unless required by applicable law or agreed to in writing, software
 * distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
 * WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
 * License for the specific language governing permissions and limitations
 * under the License.
 *
 * What a recorded system does and busybox cannot:
 *
 *     recorded sign FILE SIGNATURE            set security.ima to the bytes of a file
 *     recorded kexec KERNEL INITRD LINE       boot another kernel
 */
#include <fcntl.h>
#include <linux/reboot.h>
#include <stdio.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

static int sign(const char *file, const char *signature)
{
	char data[1024];
	int fd = open(signature, O_RDONLY);
	ssize_t size = read(fd, data, sizeof(data));

	return size <= 0 || setxattr(file, "security.ima", data, size, 0);
}

static int boot(const char *kernel, const char *initrd, const char *line)
{
	if (syscall(SYS_kexec_file_load, open(kernel, O_RDONLY), open(initrd, O_RDONLY),
		    strlen(line) + 1, line, 0L))
		return 1;
	return reboot(LINUX_REBOOT_CMD_KEXEC);
}

int main(int argc, char **argv)
{
	int failed = 2;

	if (argc == 4 && !strcmp(argv[1], "sign"))
		failed = sign(argv[2], argv[3]);
	if (argc == 5 && !strcmp(argv[1], "kexec"))
		failed = boot(argv[2], argv[3], argv[4]);
	if (failed)
		perror(argv[0]);
	return failed;
}
